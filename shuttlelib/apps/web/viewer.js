// One frame: a click says where the shuttle is, the buttons step; the curves' line and the video follow it.
element.addEventListener('click', (event) => {
  const step = event.target.closest('[data-by]');
  if (step) return trigger('step', {by: +step.dataset.by});
  const stage = event.target.closest('.stage');
  if (!stage) return;
  const box = stage.getBoundingClientRect(), shows = stage.dataset;
  trigger('pick', {
    frame: +shows.frame,
    x: +shows.x + (event.clientX - box.left) / box.width * +shows.w,
    y: +shows.y + (event.clientY - box.top) / box.height * +shows.h,
  });
});
watch('value', () => {
  const stage = element.querySelector('.stage');
  if (!stage) return;
  document.documentElement.style.setProperty('--at', stage.dataset.at);
  const video = document.querySelector('#overlay video');
  if (video && video.paused && video.readyState) video.currentTime = +stage.dataset.s;
});
