"""A labelling without a server: tasks and annotations as Label Studio's API gives them; a client to match."""

from dataclasses import replace
from pathlib import Path

from shuttlelib import clips, studio_tasks
from shuttlelib.apps.labeling import page, tasks
from shuttlelib.apps.labeling.work import Work, WorkClip

PEOPLE = {1: "ada@example.org", 2: "bob@example.org"}


def work_of(folder: Path, *videos: Path) -> Work:
    """A labelling in which every frame of some videos is out."""
    work = Work(folder, project=7)
    for video in videos:
        clip = WorkClip.of(video, clips.probe(video))
        work = work.with_clip(replace(clip, frames=tuple(range(clip.frame_count))))
    return work


def shown(work: Work, clip: str, frame: int, *annotations, number=1):
    """A task with annotations, as the export has them."""
    urls = [f"/{frame}_{n}.jpg" for n in range(page.PAST + 1)]
    task = tasks.task(work.clips[clip], frame, "spread over time", urls, [])
    return {"id": number, **task, "annotations": list(annotations)}


def said(work: Work, clip: str, choice: str, xy=None, who=1, number=11, at="2026-01-01T00:00:00Z", **changes):
    """An annotation of a task."""
    result = studio_tasks.results(choice, xy, work.clips[clip].size_hw)
    if not choice:
        result = result[:-1]
    content = {"id": number, "completed_by": who, "updated_at": at, "was_cancelled": False, "lead_time": 4.0}
    return {**content, "result": result, **changes}


class FakeClient:
    """Answers like `client.Client`, from a list of tasks."""

    url = "http://127.0.0.1:1"

    def __init__(self, export=(), label_config=page.LABEL_CONFIG):
        self.tasks, self.label_config, self.settings = list(export), label_config, {}
        self.folders = []

    def project(self, _):
        return {"label_config": self.label_config}

    def export(self, _):
        return self.tasks

    def people(self):
        return PEOPLE

    def create_project(self, title, label_config):
        self.label_config = label_config
        return 7

    def update_project(self, _, **fields):
        self.settings |= fields

    def add_folder(self, _, folder):
        self.folders.append(folder)

    def import_tasks(self, _, new):
        self.tasks += [{"id": len(self.tasks) + n, "annotations": [], **task} for n, task in enumerate(new)]
