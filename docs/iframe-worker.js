// Search of the site opened from disk. Browsers refuse workers from file: addresses, so the script of the worker runs in a
// hidden frame. The theme's worker looks for the name IFrameWorker, and awaits importScripts.
(() => {
  if (location.protocol !== "file:") return;

  class IFrameWorker extends EventTarget {
    constructor(address) {
      super();
      this.onmessage = null;
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.appendChild(frame);
      this.frame = frame;
      const scope = frame.contentWindow;
      this.receive = (event) => {
        if (event.source !== scope) return;
        const copy = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(copy);
        if (this.onmessage) this.onmessage(copy);
      };
      addEventListener("message", this.receive);
      this.loaded = new Promise((resolve) => {
        scope.document.open();
        // A function of the frame itself: its messages come from the frame.
        const send = scope.postMessage.bind(scope);
        this.send = (data) => send(data, "*");
        scope.document.write("<script>postMessage = (data) => parent.postMessage(data, '*');</scr" + "ipt>");
        scope.document.close();
        const load = (source) => new Promise((done, failed) => {
          const script = scope.document.createElement("script");
          script.src = source;
          script.onload = done;
          script.onerror = () => failed(new Error(`cannot load ${source}`));
          scope.document.head.appendChild(script);
        });
        scope.importScripts = (...sources) =>
          sources.reduce((before, source) => before.then(() => load(source)), Promise.resolve());
        load(address).then(resolve);
      });
    }

    postMessage(data) {
      this.loaded.then(() => this.send(data));
    }

    terminate() {
      removeEventListener("message", this.receive);
      this.frame.remove();
    }
  }

  window.IFrameWorker = IFrameWorker;
  window.Worker = IFrameWorker;
})();
