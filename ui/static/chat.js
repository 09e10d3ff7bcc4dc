// The chat page: sends the form as a streaming request and shows the answer as it comes.

import { AnswerError, chunks } from "./stream.js";
import { bubble, drawingView, notice, textView } from "./bubbles.js";
import { thumbs } from "./thumbs.js";

const form = document.getElementById("chat");
if (form) start(form);

function start(form) {
  const list = document.getElementById("messages");
  const { message: input, history } = form.elements;
  const send = document.getElementById("send");
  const stop = document.getElementById("stop");
  let running = null;

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (!running && text) answer(text);
  });
  stop.addEventListener("click", () => running?.abort());

  async function answer(text) {
    const drawing = form.elements.mode.value === "diagram";
    const model = form.elements.model.value;
    const turns = [...JSON.parse(history.value || "[]"), { role: "user", content: text }];
    const asked = begin(text);
    const view = drawing ? drawingView(list, model, follow) : textView(list, model);
    scrollTo({ top: document.documentElement.scrollHeight });
    let requestId = null;
    const begun = (headers) => { requestId = headers.get("x-genplat-request-id"); };
    try {
      for await (const chunk of chunks(form.dataset.stream, request(turns, drawing), running.signal, begun)) {
        view.take(chunk.choices?.[0]?.delta ?? {});
        follow();
      }
      keep(turns, view, view.finish(), requestId);
    } catch (error) {
      const stopped = error.name === "AbortError";
      const turn = stopped ? view.stop() : null;
      if (turn) {
        keep(turns, view, turn, requestId);
      } else {
        // The message goes back into its box: nothing that was typed is lost.
        view.remove();
        asked.remove();
        input.value ||= text;
        if (!stopped) list.append(notice("No answer.", sentence(error)));
      }
    } finally {
      busy(false);
      follow();
    }
  }

  function begin(text) {
    document.getElementById("hint")?.remove();
    for (const old of list.querySelectorAll(":scope > .problem")) old.remove();
    input.value = "";
    busy(true);
    return bubble(list, "user", "You", text);
  }

  function keep(turns, view, turn, requestId) {
    if (requestId) view.article.append(thumbs(requestId));
    history.value = JSON.stringify([...turns, requestId ? { ...turn, request_id: requestId } : turn]);
  }

  function request(turns, drawing) {
    const { model, temperature, max_tokens: limit, max_attempts: attempts } = form.elements;
    // A diagram starts from its scenario alone, as the model learned it.
    const sent = drawing ? turns.slice(-1) : turns;
    const body = { model: model.value, messages: sent.map(({ role, content }) => ({ role, content })) };
    if (temperature.value.trim()) body.temperature = Number(temperature.value);
    if (limit.value.trim()) body.max_tokens = Number(limit.value);
    if (drawing) body.diagram = { format: "svg", max_attempts: Number(attempts.value) || 3 };
    return body;
  }

  function busy(on) {
    running = on ? new AbortController() : null;
    send.hidden = on;
    stop.hidden = !on;
    list.setAttribute("aria-busy", String(on));
    if (!on) input.focus();
  }

  // Stays at the end of the conversation as long as its reader is there.
  function follow() {
    const root = document.documentElement;
    if (innerHeight + scrollY > root.scrollHeight - 300) scrollTo({ top: root.scrollHeight });
  }
}

function sentence(error) {
  return error instanceof AnswerError ? error.message : "The server could not be reached. Is it running?";
}
