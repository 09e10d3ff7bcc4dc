// The chat page: sends the form as a streaming request and shows the answer as it comes.
// Everything a model or a person wrote goes into the page through textContent only.

import { AnswerError, chunks } from "./stream.js";

const form = document.getElementById("chat");
if (form) start();

function start() {
  const list = document.getElementById("messages");
  const input = form.elements.message;
  const history = form.elements.history;
  const send = document.getElementById("send");
  const stop = document.getElementById("stop");
  let running = null;

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!running && input.value.trim()) answer(input.value.trim());
  });
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  stop.addEventListener("click", () => running && running.abort());
  toEnd();

  async function answer(text) {
    const drawing = form.elements.mode.value === "diagram";
    const turns = JSON.parse(history.value || "[]");
    turns.push({ role: "user", content: text });
    document.getElementById("hint")?.remove();
    for (const old of list.querySelectorAll(":scope > .problem")) old.remove();
    const mine = bubble("user", "You", text);
    input.value = "";
    busy(true);
    const view = drawing ? drawingView() : textView();
    try {
      for await (const chunk of chunks(form.dataset.stream, request(turns, drawing), running.signal)) {
        view.take(chunk.choices?.[0]?.delta ?? {});
        toEnd();
      }
      turns.push(view.finish());
      history.value = JSON.stringify(turns);
    } catch (error) {
      const kept = error.name === "AbortError" ? view.stop() : null;
      if (kept) {
        turns.push(kept);
        history.value = JSON.stringify(turns);
      } else {
        view.remove();
        if (error.name !== "AbortError") problem(error);
        mine.remove();
        if (!input.value) input.value = text;
      }
    } finally {
      busy(false);
      toEnd();
    }
  }

  function request(turns, drawing) {
    const body = { model: form.elements.model.value };
    // A diagram starts from its scenario alone, as the model learned it.
    const sent = drawing ? turns.slice(-1) : turns;
    body.messages = sent.map(({ role, content }) => ({ role, content }));
    if (form.elements.temperature.value.trim()) body.temperature = Number(form.elements.temperature.value);
    if (form.elements.max_tokens.value.trim()) body.max_tokens = Number(form.elements.max_tokens.value);
    if (drawing) body.diagram = { format: "svg", max_attempts: Number(form.elements.max_attempts.value) || 3 };
    return body;
  }

  function bubble(role, who, text) {
    const article = document.getElementById("message-template").content.firstElementChild.cloneNode(true);
    article.classList.add(role);
    article.querySelector(".who").textContent = who;
    article.querySelector(".text").textContent = text;
    list.append(article);
    return article;
  }

  function textView() {
    const article = bubble("assistant", form.elements.model.value, "");
    article.classList.add("busy");
    const box = article.querySelector(".text");
    const turn = () => {
      article.classList.remove("busy");
      return { role: "assistant", content: box.textContent, model: form.elements.model.value };
    };
    return {
      take(delta) { if (delta.content) box.append(delta.content); },
      finish() { return turn(); },
      stop() { return box.textContent ? turn() : null; },
      remove() { article.remove(); },
    };
  }

  function drawingView() {
    const article = document.getElementById("drawing-template").content.firstElementChild.cloneNode(true);
    const model = form.elements.model.value;
    article.querySelector(".who").textContent = model;
    const status = article.querySelector(".drafting");
    const source = article.querySelector(".source");
    status.textContent = "Thinking…";
    list.append(article);
    let attempt = 0;
    let content = "";
    let diagram = null;
    return {
      take(delta) {
        if (delta.draft) {
          if (delta.draft.attempt !== attempt) {
            attempt = delta.draft.attempt;
            source.textContent = "";
            status.textContent = attempt > 1 ? `Drawing, attempt ${attempt}: the last one had an error…` : "Drawing…";
          }
          source.append(delta.draft.text);
          source.scrollTop = source.scrollHeight;
        }
        if (delta.content) {
          content += delta.content;
          source.textContent = content;
          source.scrollTop = 0;
        }
        if (delta.diagram) diagram = delta.diagram;
      },
      finish() {
        if (!diagram) throw new AnswerError("The answer came without a diagram.");
        status.replaceWith(...(diagram.rendered ? picture(diagram) : [failure(diagram)]));
        return { role: "assistant", content, model, diagram };
      },
      stop() {
        return null;
      },
      remove() { article.remove(); },
    };
  }

  function picture(diagram) {
    const image = document.createElement("img");
    image.alt = "Diagram drawn from the source beside it";
    image.addEventListener("load", toEnd);
    image.src = diagram.svg_url;
    const caption = document.createElement("figcaption");
    caption.append(diagram.attempts === 1 ? "1 attempt" : `${diagram.attempts} attempts`);
    for (const [name, url] of [["SVG", diagram.svg_url], ["PNG", diagram.png_url]]) {
      const link = document.createElement("a");
      link.href = url;
      link.download = "";
      link.textContent = name;
      caption.append(" · ", link);
    }
    return [image, caption];
  }

  function failure(diagram) {
    const where = diagram.error?.line ? `Line ${diagram.error.line}: ` : "";
    const attempts = diagram.attempts === 1 ? "1 attempt" : `${diagram.attempts} attempts`;
    return notice(`Not drawable after ${attempts}.`, `${where}${diagram.error?.message ?? ""}`);
  }

  function problem(error) {
    const text = error instanceof AnswerError ? error.message : "The server could not be reached. Is it running?";
    list.append(notice("No answer.", text));
  }

  function notice(title, text) {
    const box = document.createElement("div");
    box.className = "problem";
    box.setAttribute("role", "alert");
    const line = document.createElement("p");
    const strong = document.createElement("strong");
    strong.textContent = title;
    line.append(strong, ` ${text}`);
    box.append(line);
    return box;
  }

  function busy(on) {
    running = on ? new AbortController() : null;
    send.hidden = on;
    stop.hidden = !on;
    list.setAttribute("aria-busy", String(on));
    if (!on) input.focus();
  }

  function toEnd() {
    const nearEnd = innerHeight + scrollY > document.documentElement.scrollHeight - 240;
    if (nearEnd || running) scrollTo({ top: document.documentElement.scrollHeight });
  }
}
