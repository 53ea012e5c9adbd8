// A click on an element with data-act is reported to Python: what to do, and the number of what it is done to.
element.addEventListener('click', event => {
  const hit = event.target.closest('[data-act]');
  if (hit) trigger('click', {act: hit.dataset.act, index: Number(hit.dataset.index)});
});

// The slider between photograph and heatmap, which keeps its position when the picture is drawn anew.
const root = document.documentElement;
const setCut = share => {
  const cut = Math.min(100, Math.max(0, share));
  root.style.setProperty('--pc-cut', cut + '%');
  const slider = element.querySelector('.pc-compare input');
  if (slider) slider.value = cut;
};
element.addEventListener('input', event => {
  if (event.target.closest('.pc-compare')) setCut(Number(event.target.value));
});
const drag = event => {
  const picture = event.target.closest('.pc-picture');
  if (!picture || !(event.buttons & 1)) return;
  const bounds = picture.getBoundingClientRect();
  setCut(100 * (event.clientX - bounds.left) / bounds.width);
  event.preventDefault();
};
element.addEventListener('pointerdown', drag);
element.addEventListener('pointermove', drag);
watch('value', () => setCut(parseFloat(root.style.getPropertyValue('--pc-cut')) || 0));
