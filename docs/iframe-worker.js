// Search in pages that were opened from a folder: browsers run no Worker there, so a hidden frame runs its script.
// Material's offline plugin takes a shim of this name in place of one that it would fetch from elsewhere.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inside = (this.inside = frame.contentWindow);
      inside.document.open(); // the frame's own first page would come late in some browsers, and replace ours
      inside.document.write("<!doctype html><body></body>");
      inside.document.close();
      const load = (src) =>
        new Promise((done, failed) => {
          const script = inside.document.createElement("script");
          Object.assign(script, { src: new URL(src, location), onload: done, onerror: failed });
          inside.document.body.append(script);
        });
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = (...all) => all.reduce((before, one) => before.then(() => load(one)), Promise.resolve());
      this.ready = load(url);
      this.terminate = () => frame.remove();
    }

    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
