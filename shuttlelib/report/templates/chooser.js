(function () {
  var data = JSON.parse(document.getElementById("data").textContent);
  var names = Object.keys(data.values), boxes = [document.getElementById("a"), document.getElementById("b")];
  var asked = new URLSearchParams(location.hash.slice(1));
  boxes.forEach(function (box, i) {
    names.forEach(function (name) { box.add(new Option(name, name)); });
    var wanted = asked.get(box.id);
    box.value = names.indexOf(wanted) >= 0 ? wanted : data.first[i];
    box.addEventListener("change", draw);
  });
  function element(tag, text, kind) {
    var made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  }
  function table(head, rows, left) {
    var wide = element("div", undefined, "scroll"), made = wide.appendChild(element("table"));
    var top = made.appendChild(element("thead")).appendChild(element("tr"));
    head.forEach(function (cell, i) { top.appendChild(element("th", cell, i >= left ? "number" : "")); });
    var body = made.appendChild(element("tbody"));
    rows.forEach(function (row) {
      var line = body.appendChild(element("tr"));
      row.forEach(function (cell, i) { line.appendChild(element(i ? "td" : "th", cell, i >= left ? "number" : "word")); });
    });
    return wide;
  }
  function number(value, digits) {
    return value === undefined ? "–" : value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits});
  }
  function change(a, b, digits, lower, same) {
    if (a === undefined || b === undefined) return "–";
    if (!same) return "not comparable";
    if (Math.abs(b - a) < 0.5 * Math.pow(10, -digits)) return "same";
    return (b > a ? "+" : "") + number(b - a, digits) + ((b < a) === lower ? " ▲ better" : " ▼ worse");
  }
  function draw() {
    var a = boxes[0].value, b = boxes[1].value, out = document.getElementById("compared");
    var measures = Object.keys(data.measures).filter(function (key) {
      return data.values[a][key] !== undefined || data.values[b][key] !== undefined;
    });
    var fields = Object.keys(data.fields[a]).filter(function (key) { return data.fields[a][key] !== data.fields[b][key]; });
    out.replaceChildren(element("p", a + ": " + data.notes[a]), element("p", b + ": " + data.notes[b]));
    out.append(measures.length ? table(["measure", a, b, "change"], measures.map(function (key) {
      var row = data.measures[key], left = data.values[a][key], right = data.values[b][key];
      var same = data.judged[a][key] === data.judged[b][key];
      return [row[0], number(left, row[1]), number(right, row[1]), change(left, right, row[1], row[2], same)];
    }), 1) : element("p", "Neither was measured here."));
    out.append(fields.length ? table(["field", a, b], fields.map(function (key) {
      return [key, data.fields[a][key], data.fields[b][key]];
    }), 3) : element("p", "They differ in no field."));
    history.replaceState(null, "", "#a=" + a + "&b=" + b);
  }
  draw();
})();
