// The page works without this. It lets a file be dropped, and says what became of it without leaving the page.
(() => {
  "use strict";
  const form = document.getElementById("file-form");
  if (!form) return;
  const input = document.getElementById("csv");
  const drop = document.getElementById("drop");
  const button = form.querySelector("button");
  const status = document.getElementById("file-status");
  const limit = Number(form.dataset.maxBytes);

  const say = (text) => { status.textContent = text; };

  const tooLarge = () => {
    const file = input.files[0];
    if (!file || file.size <= limit) return false;
    say(`The file is too large: it has ${(file.size / 2 ** 20).toFixed(1)} MB, and at most ${limit / 2 ** 20} MB are taken.`);
    return true;
  };

  const save = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };

  // What the server found wrong comes as a whole page: its alert is put at the top of this one.
  const show = (html) => {
    const found = new DOMParser().parseFromString(html, "text/html");
    const alert = found.querySelector("[role=alert]");
    if (!alert) { say("The service gave no answer that can be shown. Try again."); return; }
    clear();
    alert.querySelectorAll("[autofocus]").forEach((item) => item.removeAttribute("autofocus"));
    const main = document.getElementById("main");
    main.prepend(document.adoptNode(alert));
    document.title = found.title;
    const heading = main.querySelector("[role=alert] h2");
    heading.focus();
    heading.scrollIntoView({ block: "start" });
    say("");
  };

  const clear = () => document.querySelectorAll("#main > .verdict, #main > .answer").forEach((old) => old.remove());

  const reason = async (answer) => {
    const fault = await answer.json().then((found) => found.error, () => null);
    say(fault ? `${fault.headline}. ${fault.detail} ${fault.hint}` : `The service refused the file (${answer.status}).`);
  };

  const send = async (sent) => {
    say("Scoring…");
    button.disabled = true;
    try {
      const answer = await fetch(sent.getAttribute("action"), { method: "POST", body: new FormData(sent), headers: { Accept: "text/csv, text/html" } });
      const type = answer.headers.get("Content-Type") || "";
      if (answer.ok) {
        const name = (/filename="([^"]+)"/.exec(answer.headers.get("Content-Disposition") || "") || [])[1] || "scores.csv";
        const aside = Number(answer.headers.get("Vehins-Set-Aside"));
        save(await answer.blob(), name);
        clear();
        const rows = Number(answer.headers.get("Vehins-Scored")).toLocaleString("en");
        say(`Done: ${rows} rows scored${aside ? `, ${aside.toLocaleString("en")} without a score` : ""}. ${name} is among your downloads.`);
      } else if (type.startsWith("text/html")) show(await answer.text());
      else await reason(answer);
    } catch {
      say("The service could not be reached, or the file has changed since it was chosen. Choose it again and retry.");
    } finally {
      button.disabled = false;
    }
  };

  document.addEventListener("submit", (event) => {
    // Not `form.action`: a column of that name would stand in its place.
    if (event.target.getAttribute("action") !== "/scores.csv") return;
    event.preventDefault();
    if (!tooLarge()) send(event.target);
  });
  input.addEventListener("change", () => { say(""); tooLarge(); });

  drop.querySelector(".drop-hint").hidden = false;
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    drop.classList.toggle("over", event.type !== "dragleave");
  };
  drop.addEventListener("dragenter", over);
  drop.addEventListener("dragover", over);
  drop.addEventListener("dragleave", over);
  drop.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    drop.classList.remove("over");
    const only = new DataTransfer();
    only.items.add(event.dataTransfer.files[0]);
    input.files = only.files;
    input.dispatchEvent(new Event("change"));
    if (!tooLarge()) form.requestSubmit();
  });
})();
