// Thumbs under an answer: the form's buttons, sent without leaving the page.

/** The buttons for one answer, by the id that the log has it under. */
export function thumbs(requestId) {
  const group = document.getElementById("thumbs-template").content.firstElementChild.cloneNode(true);
  for (const button of group.querySelectorAll("button")) button.setAttribute("formaction", `/requests/${requestId}/feedback`);
  return group;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-rate] button");
  if (!button) return;
  event.preventDefault();
  const group = button.closest("[data-rate]");
  const buttons = [...group.querySelectorAll("button")];
  const said = group.querySelector("[role=status]");
  // Pressed again, a thumb is taken back.
  const on = button.getAttribute("aria-pressed") !== "true";
  const before = buttons.map((one) => one.getAttribute("aria-pressed"));
  for (const one of buttons) one.setAttribute("aria-pressed", String(on && one === button));
  said.textContent = "";
  try {
    const answer = await fetch(button.formAction, {
      method: "POST",
      headers: { Accept: "application/json" },
      body: new URLSearchParams({ rating: on ? button.value : "" }),
    });
    if (!answer.ok) throw new Error(String(answer.status));
    said.textContent = on ? "Thank you." : "Taken back.";
  } catch {
    buttons.forEach((one, index) => one.setAttribute("aria-pressed", before[index]));
    said.textContent = "That could not be stored.";
  }
});
