// Run buttons: the Python blocks of a page run in the browser, in one interpreter, in order.
//
// The interpreter is Pyodide, in a web worker: the page stays responsive, and Stop ends the worker.
"use strict";

(() => {
  const script = document.currentScript;
  const pyodide = new URL(script.dataset.pyodide, script.src).href;
  const queue = []; // blocks that wait; the first one runs
  let worker = null;

  // This function is the program of the worker.
  function interpreter() {
    const say = (kind, ...values) => postMessage([kind, ...values]);
    let python, library;

    async function start(pyodide, { modules, wheel }) {
      const { loadPyodide } = await import(`${pyodide}pyodide.mjs`);
      const env = { HOME: "/home/pyodide", MPLBACKEND: "agg" };
      python = await loadPyodide({ indexURL: pyodide, env });
      await load(() => python.loadPackage(["numpy", "attrs"], quiet));
      python.unpackArchive(Uint8Array.from(atob(wheel), (c) => c.charCodeAt(0)), "wheel");
      for (const [name, source] of Object.entries(modules))
        python.FS.writeFile(`/home/pyodide/${name}.py`, source);
      for (const [stream, set] of [["out", "setStdout"], ["error", "setStderr"]]) {
        const decoder = new TextDecoder();
        const write = (bytes) => {
          say("text", stream, decoder.decode(bytes, { stream: true }));
          return bytes.length;
        };
        python[set]({ write });
      }
      library = python.pyimport("in_browser");
    }

    const failures = [];
    const quiet = { messageCallback() {}, errorCallback: (text) => failures.push(text) };

    // Pyodide reports a package that it cannot load only to the callback.
    async function load(packages) {
      failures.length = 0;
      await packages();
      if (failures.length) throw new Error(failures.join("\n"));
    }

    function fail(text) {
      say("text", "error", `${text}\n`);
      say("ended");
    }

    onmessage = async ({ data: { code, number, pyodide, files } }) => {
      try {
        if (!library) await start(pyodide, files);
        await load(() => python.loadPackagesFromImports(library.imports(code), quiet));
      } catch (error) {
        fail(`Python did not load from ${pyodide}, which only the Run buttons need: ${error.message}`);
        return;
      }
      say("status", "Running …");
      const picture = (document, description) => say("picture", document, description);
      try {
        say("done", library.run(code, number, picture));
      } catch (error) {
        // Pyodide cannot continue after such an error, as when memory is exhausted.
        fail(`Python ended: ${error.message}`);
      }
    };
  }

  class Block {
    constructor(element, index) {
      this.number = index + 1;
      this.code = element.querySelector("pre");
      this.code.setAttribute("contenteditable", "plaintext-only");
      this.code.spellcheck = false;
      this.code.setAttribute("role", "textbox");
      this.code.setAttribute("aria-multiline", "true");
      this.code.setAttribute("aria-label", `Python code, block ${this.number}, can be edited`);
      this.button = Object.assign(document.createElement("button"), { type: "button" });
      this.status = document.createElement("span");
      this.status.setAttribute("role", "status");
      this.output = document.createElement("div");
      this.output.className = "playground-output";
      const bar = document.createElement("div");
      bar.className = "playground-bar";
      bar.append(this.button, this.status);
      this.printed = []; // the output on the page, from the build of the site
      let next = element.nextElementSibling;
      for (; next?.matches("div.highlight-text, img"); next = next.nextElementSibling)
        this.printed.push(next);
      element.after(bar, this.output);
      this.button.addEventListener("click", () => (this.waits ? receive.ended(this) : run(this)));
      this.code.addEventListener("keydown", (event) => {
        event.stopPropagation(); // the theme takes "/" as the search key
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey || event.shiftKey)) {
          event.preventDefault();
          if (!this.waits) run(this);
        }
      });
      this.reset();
    }

    get waits() {
      return queue.includes(this);
    }

    reset(status = "") {
      this.ran = false;
      this.button.textContent = "Run";
      this.status.textContent = status;
    }

    wait() {
      this.button.textContent = "Stop";
      this.status.textContent = "Waiting …";
    }

    text(stream, text) {
      let last = this.output.lastElementChild;
      if (!last?.matches(`pre.${stream}`)) {
        last = document.createElement("pre");
        last.className = stream;
        this.output.append(last);
      }
      last.append(text);
      last.scrollTop = last.scrollHeight;
    }

    picture(svg, description) {
      const image = document.createElement("img");
      image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
      image.alt = description;
      this.output.append(image);
    }
  }

  // A block needs the variables of the blocks before it.
  function run(block) {
    for (const each of blocks.slice(0, block.number))
      if (!each.waits && (!each.ran || each === block)) {
        queue.push(each);
        each.wait();
      }
    if (queue[0] && !queue[0].started) next();
  }

  async function next() {
    const block = queue[0];
    if (!block) return;
    block.started = performance.now();
    block.output.replaceChildren();
    for (const element of block.printed) element.hidden = true;
    block.status.textContent = worker ? "Running …" : "Loading Python: 10 to 60 MB, once …";
    const isFirst = !worker;
    if (isFirst) start();
    const current = worker;
    const message = { code: block.code.innerText, number: block.number, pyodide };
    if (isFirst) message.files = await files();
    if (worker === current) current.postMessage(message);
  }

  // A page from the disk can start a worker only from a data URL, a page of a server from any.
  function start() {
    const program = `(${interpreter})()`;
    const address =
      location.protocol === "file:"
        ? `data:text/javascript,${encodeURIComponent(program)}`
        : URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
    const current = new Worker(address, { type: "module" });
    current.onmessage = ({ data: [kind, ...values] }) => {
      if (current === worker) receive[kind](queue[0], ...values);
    };
    current.onerror = ({ message }) => {
      queue[0].text("error", `The browser did not start a worker: ${message}\n`);
      receive.ended(queue[0]);
    };
    worker = current;
  }

  const receive = {
    text: (block, stream, text) => block.text(stream, text),
    picture: (block, svg, description) => block.picture(svg, description),
    status: (block, text) => (block.status.textContent = text),
    done(block, succeeded) {
      const seconds = (performance.now() - block.started) / 1000;
      block.started = null;
      queue.shift();
      block.reset(`${succeeded ? "Ran in" : "Failed after"} ${seconds.toFixed(1)} s.`);
      block.ran = succeeded;
      if (!succeeded) for (const each of queue.splice(0)) each.reset();
      next();
    },
    // The interpreter has lost the variables of all blocks.
    ended(block) {
      worker?.terminate();
      worker = null;
      queue.length = 0;
      for (const each of blocks) {
        each.started = null;
        each.reset();
      }
      block.status.textContent = "Ended. The next run begins at the first block.";
    },
  };

  // A script, because a page without a server can load scripts, but no other files.
  let loading = null;
  function files() {
    loading ??= new Promise((resolve) => {
      const source = document.createElement("script");
      source.src = new URL("playground-files.js", script.src).href;
      source.onload = () => resolve(globalThis.playgroundFiles);
      document.head.append(source);
    });
    return loading;
  }

  const elements = document.querySelectorAll("div.highlight-python");
  const blocks = [...elements].map((element, index) => new Block(element, index));
})();
