// The form of a new run: another row for another dataset.

document.addEventListener("DOMContentLoaded", () => {
  const button = document.querySelector("[data-add-row]");
  if (!button) return;
  const most = 16;
  const rows = () => document.querySelectorAll(".mix-row");
  const refresh = () => { button.hidden = rows().length >= most; };

  button.addEventListener("click", () => {
    const last = [...rows()].at(-1);
    const number = rows().length;
    const row = last.cloneNode(true);
    for (const error of row.querySelectorAll(".field-error")) error.remove();
    for (const [tag, id, what] of [["select", "dataset", "Dataset"], ["input", "weight", "Weight of dataset"]]) {
      const control = row.querySelector(tag);
      const label = row.querySelector(`label[for="${control.id}"]`);
      control.id = label.htmlFor = `${id}-${number}`;
      label.textContent = `${what} ${number + 1}`;
      control.removeAttribute("aria-invalid");
    }
    row.querySelector("select").value = "";
    row.querySelector("input").value = "1";
    row.querySelector("input").setAttribute("aria-describedby", "mix-help");
    row.querySelector("select").removeAttribute("aria-describedby");
    last.after(row);
    row.querySelector("select").focus();
    refresh();
  });
  refresh();
});
