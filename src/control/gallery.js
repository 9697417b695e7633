// A click into a link text selects it and copies it.
document.addEventListener("click", (event) => {
  const input = event.target;
  if (!(input instanceof HTMLInputElement) || !input.readOnly) return;
  input.select();
  const label = input.parentElement.querySelector("span");
  navigator.clipboard?.writeText(input.value).then(() => {
    const before = label.dataset.name ?? (label.dataset.name = label.textContent);
    label.textContent = "copied";
    setTimeout(() => { label.textContent = before; }, 1200);
  });
});
