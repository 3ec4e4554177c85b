// The nets of this page: sums over a text's words and n-grams. It uses no document, so that Node can run it.
const classifier = (() => {
  const WORD = 0xffff_ffff_ffff_ffffn;
  const encoder = new TextEncoder();

  const bytesOf = base64 => {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
    return bytes;
  };

  // LEB128: seven bits a byte, the lowest first.
  const numbersOf = (base64, count) => {
    const bytes = bytesOf(base64), numbers = new Float64Array(count);
    let at = 0;
    for (let i = 0; i < count; i++) {
      let place = 1, byte;
      do {
        byte = bytes[at++];
        numbers[i] += (byte & 0x7f) * place;
        place *= 128;
      } while (byte & 0x80);
    }
    return numbers;
  };

  const keysOf = ({ bits, count, gaps }) => {
    const keys = numbersOf(gaps, count);
    for (let i = 1; i < count; i++) keys[i] += keys[i - 1];
    return { bits: BigInt(bits), keys };
  };

  // The number of a key; -1 for an unknown one.
  const find = (keys, key) => {
    let from = 0, to = keys.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (keys[middle] < key) from = middle + 1;
      else to = middle;
    }
    return keys[from] === key ? from : -1;
  };

  // Fingerprints, as crates/ngram_features/src/fingerprint.rs computes them.
  const mix = x => {
    x ^= x >> 33n;
    x = (x * 0xff51_afd7_ed55_8ccdn) & WORD;
    x ^= x >> 33n;
    x = (x * 0xc4ce_b9fe_1a85_ec53n) & WORD;
    return x ^ (x >> 33n);
  };
  const turned = (x, bits) => ((x << bits) | (x >> (64n - bits))) & WORD;
  const little = (bytes, from, to) => {
    let word = 0n;
    for (let at = to; at-- > from; ) word = (word << 8n) | BigInt(bytes[at]);
    return word;
  };
  const print = text => {
    const bytes = encoder.encode(text), length = bytes.length;
    if (length >= 1 && length <= 7) return mix(little(bytes, 0, length) | (BigInt(length) << 56n));
    let hash = mix(BigInt(length) | (1n << 63n));
    for (let at = 0; at < length; at += 8) hash = turned(mix(hash ^ little(bytes, at, Math.min(at + 8, length))), 25n);
    return hash || 1n;
  };
  const extended = (before, word) => mix(((before * 0x9e37_79b9_7f4a_7c15n) & WORD) ^ turned(word, 31n)) || 1n;

  // White space as Python's str.isspace has it, and Unicode's.
  const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
  const PIECES = new RegExp(`[^${SPACE}\\x1c-\\x1f]+`, "gu");
  const WORDS = {
    exercise: new RegExp(`[^${SPACE}\\x1c-\\x1f!-/:-@\\[-\`{-~]+`, "gu"),
    whitespace: new RegExp(`[^${SPACE}]+`, "gu"),
  };
  const ALPHANUMERIC = /[\p{Alphabetic}\p{N}_]+/gu;
  const matches = (text, pattern) => Array.from(text.matchAll(pattern), match => [match[0], match.index, match.index + match[0].length]);

  // Every n-gram of words with its fingerprint and places.
  const ofWords = function* (text, [least, most]) {
    const words = matches(text, ALPHANUMERIC).map(([word, from, to]) => [print(word), from, to]);
    for (let first = 0; first < words.length; first++) {
      let whole = 0n;
      for (let n = 1; n <= most && first + n <= words.length; n++) {
        const [word, , to] = words[first + n - 1];
        whole = n === 1 ? word : extended(whole, word);
        if (n >= least) yield [whole, words[first][1], to];
      }
    }
  };

  // Every n-gram of characters, of pieces between white space with a space on both sides.
  const ofCharacters = function* (text, [least, most]) {
    for (const [piece, from, to] of matches(text, PIECES)) {
      const padded = [" ", ...piece, " "];
      // Where each begins in the text; the spaces take no place.
      const places = [from];
      let place = from;
      for (const character of padded.slice(1, -1)) {
        places.push(place);
        place += character.length;
      }
      places.push(to, to);
      const gram = (start, end) => [print(padded.slice(start, end).join("")), places[start], places[end]];
      // A piece that is shorter than the longest n-gram counts as a whole, once.
      if (padded.length <= most) yield gram(0, padded.length);
      for (let n = least; n <= Math.min(most, padded.length - 1); n++) {
        for (let start = 0; start + n <= padded.length; start++) yield gram(start, start + n);
      }
    }
  };

  // The terms of the n-grams of one kind: the number of a row, a weight, and the places.
  const terms = (block, text, options) => {
    const found = new Map();
    const grams = block.name === "word" ? ofWords(text, options.word) : ofCharacters(text, options.char_wb);
    for (const [whole, from, to] of grams) {
      const row = find(block.keys, Number(whole >> (64n - block.bits)));
      if (row < 0) continue;
      if (!found.has(row)) found.set(row, []);
      found.get(row).push([from, to]);
    }
    let squares = 0;
    const all = [...found].map(([row, places]) => {
      const tf = options.sublinear_tf ? 1 + Math.log(places.length) : places.length;
      const weight = tf * block.idf[row];
      squares += weight * weight;
      return { row, weight, places };
    });
    for (const term of all) term.weight /= Math.sqrt(squares);
    return all;
  };

  const wordTerms = ({ keys, bits, pattern, lowercase }, text) => {
    const known = word => find(keys, Number(print(word) >> (64n - bits)));
    const all = [];
    for (const [word, from, to] of matches(text, pattern)) {
      const lower = word.toLowerCase();
      let row = known(lowercase === "always" ? lower : word);
      if (row < 0 && lowercase === "fallback" && lower !== word) row = known(lower);
      if (row >= 0) all.push({ row, weight: 1, places: [[from, to]] });
    }
    for (const term of all) term.weight = 1 / all.length;
    return all;
  };

  const rowsOf = rows => rows && { factors: rows.factors, values: new Int16Array(bytesOf(rows.values).buffer) };

  const softmax = logits => {
    const largest = Math.max(...logits);
    const odds = logits.map(logit => Math.exp(logit - largest));
    const sum = odds.reduce((a, b) => a + b, 0);
    return odds.map(odd => odd / sum);
  };

  // The logits of margins, as crates/classifiers computes them.
  const logitsOf = ({ calibration, regression }, margins) => {
    const scaled = margins.map(margin => margin * calibration.scale);
    if (!regression) return scaled;
    // Not the logarithm of the softmax, which may be that of 0.
    const largest = Math.max(...scaled);
    const sum = Math.log(scaled.reduce((sum, x) => sum + Math.exp(x - largest), 0));
    const logs = scaled.map(x => x - largest - sum);
    const mean = logs.reduce((a, b) => a + b, 0) / logs.length;
    const inputs = logs.map(log => log - mean);
    // With many classes, all have one weight.
    const one = regression.weight.length === 1;
    return regression.bias.map((bias, k) => {
      const sum = one ? regression.weight[0] * inputs[k] : inputs.reduce((sum, x, i) => sum + x * regression.weight[k * inputs.length + i], 0);
      return (bias + sum) * calibration.of_regression;
    });
  };

  // What is read from the JSON in the page.
  const read = json => {
    const { labels, words, ngrams, nets } = json;
    const lists = words && { ...keysOf(words.keys), pattern: WORDS[words.tokenizer], lowercase: words.lowercase };
    const blocks = ngrams ? ngrams.blocks.map(({ block, keys, idf }) => {
      const numbers = numbersOf(idf.of, keys.count);
      return { name: block, ...keysOf(keys), idf: Float64Array.from(numbers, number => idf.values[number]) };
    }) : [];
    const all = nets.map(net => ({ ...net, words: rowsOf(net.words), ngrams: net.ngrams.map(rowsOf) }));
    return { labels, words: lists, blocks, options: ngrams && ngrams.options, nets: all };
  };

  // The probabilities of a text's classes, and each term with what it gives to each class.
  const classify = ({ words, blocks, options, nets }, number, text) => {
    const net = nets[number], margins = net.bias.slice(), given = [];
    const add = (all, { factors, values }) => {
      for (const { row, weight, places } of all) {
        const gives = factors.map((factor, k) => weight * factor * values[row * factors.length + k]);
        gives.forEach((x, k) => { margins[k] += x; });
        given.push({ places, gives });
      }
    };
    const lowered = options && options.lowercase ? text.toLowerCase() : text;
    net.ngrams.forEach((rows, at) => {
      const all = terms(blocks[at], lowered, options);
      // İ is longer in lower case: then the places are not those of the text.
      if (lowered.length !== text.length) for (const term of all) term.places = [];
      add(all, rows);
    });
    if (net.words) add(wordTerms(words, text), net.words);
    return { probabilities: softmax(logitsOf(net, margins)), given, known: given.length > 0 };
  };

  // Between white space, each piece of a text, and what it gives to a class more than to the mean of all: a term is
  // divided equally among its characters.
  const explain = ({ given }, text, label) => {
    const gives = new Float64Array(text.length);
    for (const { places, gives: of } of given) {
      const mean = of.reduce((a, b) => a + b, 0) / of.length;
      for (const [from, to] of places) {
        const share = (of[label] - mean) / places.length / Math.max(to - from, 1);
        for (let at = from; at < to; at++) gives[at] += share;
      }
    }
    return matches(text, PIECES).map(([piece, from, to]) => ({ piece, from, to, gives: gives.subarray(from, to).reduce((a, b) => a + b, 0) }));
  };

  return { read, classify, explain };
})();
