"use strict";

const SIZE = 8; // of the network's images
const FINE = 32; // the data were counted from bitmaps of 32 × 32 pixels
const INK = 26; // the width of a stroke

const drawing = document.getElementById("drawing");
const pen = drawing.getContext("2d", { willReadFrequently: true });
const seen = document.getElementById("seen").getContext("2d");
const status = document.getElementById("status");
const bars = [...Array(10).keys()].map(addBar);

function addBar(digit) {
  const row = document.createElement("li");
  const meter = document.createElement("meter");
  const output = document.createElement("output");
  row.append(String(digit), meter, output);
  document.getElementById("bars").append(row);
  return { row, meter, output };
}

// The box around the ink, or null without any.
function inkBox() {
  const { data, width, height } = pen.getImageData(0, 0, drawing.width, drawing.height);
  let left = width, top = height, right = -1, bottom = -1;
  for (let i = 3; i < data.length; i += 4) {
    if (data[i] < 64) continue;
    const x = ((i - 3) / 4) % width, y = Math.floor((i - 3) / 4 / width);
    left = Math.min(left, x);
    right = Math.max(right, x);
    top = Math.min(top, y);
    bottom = Math.max(bottom, y);
  }
  return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

// The ink as in the training data: it fills the height, and is centred; from 0 to 1.
function image(box) {
  const fine = new OffscreenCanvas(FINE, FINE).getContext("2d");
  const scale = FINE / Math.max(box.width, box.height);
  const width = box.width * scale, height = box.height * scale;
  fine.imageSmoothingQuality = "high";
  fine.drawImage(
    drawing, box.left, box.top, box.width, box.height,
    (FINE - width) / 2, (FINE - height) / 2, width, height,
  );
  const { data } = fine.getImageData(0, 0, FINE, FINE);
  const block = FINE / SIZE, pixels = new Float32Array(SIZE * SIZE);
  for (let y = 0; y < FINE; y++) {
    for (let x = 0; x < FINE; x++) {
      const pixel = Math.floor(y / block) * SIZE + Math.floor(x / block);
      pixels[pixel] += data[4 * (y * FINE + x) + 3] / 255 / block ** 2;
    }
  }
  return pixels;
}

function show(pixels, probabilities) {
  const picture = seen.createImageData(SIZE, SIZE);
  pixels.forEach((value, i) => picture.data.set([0, 0, 0, Math.round(255 * value)], 4 * i));
  seen.putImageData(picture, 0, 0);
  const best = probabilities.indexOf(Math.max(...probabilities));
  bars.forEach(({ row, meter, output }, digit) => {
    meter.value = probabilities[digit];
    output.value = `${(100 * probabilities[digit]).toFixed(1)} %`;
    row.classList.toggle("best", digit === best && probabilities[best] > 0);
  });
  const article = best === 8 ? "an" : "a";
  const verb = probabilities[best] > 0.5 ? "is" : "may be";
  status.textContent =
    probabilities[best] > 0 ? `This ${verb} ${article} ${best}.` : "Draw a digit.";
}

function clear() {
  pen.clearRect(0, 0, drawing.width, drawing.height);
  show(new Float32Array(SIZE * SIZE), Array(10).fill(0));
}

async function main() {
  ort.env.wasm.numThreads = 1; // threads need special headers of the server
  const network = await ort.InferenceSession.create("digits.onnx");
  let running = false, again = false;

  async function recognize() {
    again = running;
    if (running) return;
    running = true;
    const box = inkBox();
    if (box) {
      const pixels = image(box);
      const input = new ort.Tensor("float32", pixels, [1, 1, SIZE, SIZE]);
      const { output } = await network.run({ input });
      if (inkBox()) show(pixels, [...output.data]);
    }
    running = false;
    if (again) recognize();
  }

  Object.assign(pen, { lineWidth: INK, lineCap: "round", lineJoin: "round" });
  drawing.addEventListener("pointerdown", (event) => {
    drawing.setPointerCapture(event.pointerId);
    pen.beginPath();
    pen.moveTo(event.offsetX, event.offsetY);
    pen.lineTo(event.offsetX, event.offsetY);
    pen.stroke();
    recognize();
  });
  drawing.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    pen.lineTo(event.offsetX, event.offsetY);
    pen.stroke();
    recognize();
  });
  document.getElementById("clear").addEventListener("click", clear);
  clear();
}

main().catch((error) => {
  status.textContent = `The network did not load: ${error.message}`;
});
