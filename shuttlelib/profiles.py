"""How much work a run does: one row a profile, so that notebooks hold no sizes; a leaf.

`quick` proves the whole road: ten notebooks and the sample video in ten minutes on two CPU cores. What
it trains is worth nothing. `full` is for a night on one 16 GB card (an A4000).
"""

from dataclasses import dataclass

from shuttlelib.errors import UsageError


@dataclass(frozen=True)
class Profile:
    """The sizes of the work; the name is what a notebook's `profile` parameter holds."""

    name: str
    clips: int  # rendered rallies
    frames_per_clip: int
    size_hw: tuple[int, int]  # px, of the rendered clips
    fps: float
    val_share: float  # of the clips, taken as whole venues
    batch_stage1: int  # samples a step
    batch_stage2: int
    steps_stage1: int  # optimizer steps
    steps_stage2: int
    val_samples: int  # validation samples a measurement during training looks at, at most
    steps_compare: int  # optimizer steps for every row of the version comparison
    batch_compare: int
    rows_compare: str  # versions compared, separated by commas, or "all"
    mining_passes: int  # looks at each frame that mining scores
    mining_every: int  # of so many labelled frames mining scores one
    hard_examples: int  # samples kept by one round
    finetune_steps: int  # optimizer steps of one round
    eval_clips: int  # clips tracked for free-running metrics


PROFILES = {
    row.name: row
    for row in (
        Profile(
            name="quick",
            clips=6,
            frames_per_clip=60,
            size_hw=(360, 640),
            fps=30.0,
            val_share=0.34,
            batch_stage1=8,
            batch_stage2=16,
            steps_stage1=20,
            steps_stage2=30,
            val_samples=64,
            steps_compare=3,
            batch_compare=4,
            rows_compare="stage1_v4,stage1_v5,stage2_v5,stage2_v8",
            mining_passes=1,
            mining_every=4,
            hard_examples=64,
            finetune_steps=10,
            eval_clips=2,
        ),
        Profile(
            name="full",
            clips=240,
            frames_per_clip=180,
            size_hw=(720, 1280),
            fps=30.0,
            val_share=0.15,
            batch_stage1=32,
            batch_stage2=64,
            steps_stage1=30_000,
            steps_stage2=30_000,
            val_samples=2_000,
            steps_compare=6_000,
            batch_compare=16,
            rows_compare="all",
            mining_passes=2,
            mining_every=1,
            hard_examples=6_000,
            finetune_steps=4_000,
            eval_clips=36,
        ),
    )
}


def get(name: str) -> Profile:
    """The profile of that name.

    Raises:
        UsageError: there is no such profile; the message lists those there are.
    """
    if name not in PROFILES:
        raise UsageError(f"profile {name!r} does not exist: use one of {', '.join(PROFILES)}")
    return PROFILES[name]
