// engine.mjs - loads exported files in a stock llama.cpp and compares what it computes with what
// kerf measured.  Speaks TAP.
//
//   node engine.mjs FOLDER [FIRST]      numbers tests from FIRST + 1 and leaves the plan to the caller
//
// FOLDER is what engine_cases wrote: cases.json lists {name, file, architecture, tokens,
// nll: [one a predicted token], top1: [...]} and sequences of token ids; node_modules is found from
// here or through the folder that the script was copied to.
import fs from "node:fs";
import path from "node:path";
import {getLlama} from "node-llama-cpp";

// Perplexities agree within 1 %, and what is said of each token within 0.06 nats on average (measured:
// 0.053 at most).  Best tokens differ where two are nearly level, for activations of 8 bits carry a
// last-bit difference on: two builds of the stock engine itself, for two processors, agree on 99.1 %
// of them on stories260K in Q8_0; K-quants, whose activations share a scale by 256, agree with kerf on
// 94.5 to 96.1 % on the reference model.
const PERPLEXITY_WITHIN = 0.01;
const MEAN_GAP_WITHIN = 0.06;
const TOP1_AT_LEAST = 0.93;

const folder = process.argv[2];
const {vocabulary, sequences, cases} = JSON.parse(
    fs.readFileSync(path.join(folder, "cases.json"), "utf8"));
const nBefore = Number(process.argv[3] ?? 0);
let nTests = nBefore, nFailed = 0;

function report(held, title, detail) {
    nTests++;
    nFailed += held ? 0 : 1;
    console.log(`${held ? "ok" : "not ok"} ${nTests} - ${title}`);
    console.log(`# ${detail}`);
}

// Negative log likelihoods and best tokens of every token but the first of a sequence.  Asked for:
// the logit of the token that comes, the largest one, and sum(exp(logit - largest)).
async function evaluate(sequence, tokens) {
    await sequence.clearHistory();
    const answers = await sequence.controlledEvaluate(tokens.map((token, i) =>
        i + 1 === tokens.length ? token : [token, {generateNext: {
            totalLogitWeight: true,
            logits: {filter: {tokens: [tokens[i + 1]], includeTop: 1}}
        }}]));
    const nll = [], top1 = [];
    for (let i = 0; i + 1 < tokens.length; i++) {
        const {logits, totalLogitWeight} = answers[i].next;
        const [[best, most]] = logits.entries();
        nll.push(Math.log(totalLogitWeight) + most - logits.get(tokens[i + 1]));
        top1.push(best);
    }
    return {nll, top1};
}

// The same from all logits, for a check of the short way.
async function evaluateInFull(sequence, tokens) {
    await sequence.clearHistory();
    const answers = await sequence.controlledEvaluate(tokens.map((token, i) =>
        i + 1 === tokens.length ? token : [token, {generateNext: {logits: true}}]));
    const nll = [];
    for (let i = 0; i + 1 < tokens.length; i++) {
        const all = [...answers[i].next.logits.values()];
        if (all.length !== vocabulary)
            throw new Error(`${all.length} logits for a vocabulary of ${vocabulary}`);
        const most = Math.max(...all);
        const sum = all.reduce((a, x) => a + Math.exp(x - most), 0);
        nll.push(Math.log(sum) + most - answers[i].next.logits.get(tokens[i + 1]));
    }
    return nll;
}

async function run(llama, file, checkShortWay) {
    const model = await llama.loadModel({modelPath: file, gpuLayers: 0});
    const longest = Math.max(...sequences.map((s) => s.length));
    const context = await model.createContext({
        contextSize: longest + 8, batchSize: longest + 8, threads: 1, flashAttention: false});
    const sequence = context.getSequence();
    const nll = [], top1 = [];
    for (const tokens of sequences) {
        const part = await evaluate(sequence, tokens);
        nll.push(...part.nll);
        top1.push(...part.top1);
    }
    if (checkShortWay) {
        const some = sequences[0].slice(0, 64);
        const full = await evaluateInFull(sequence, some);
        const gap = Math.max(...full.map((x, i) => Math.abs(x - nll[i])));
        report(gap < 1e-3, "the engine's summed weights are those of all its logits",
            `largest gap ${gap.toExponential(2)} nats over ${full.length} tokens`);
    }
    await context.dispose();
    await model.dispose();
    return {nll, top1};
}

const mean = (x) => x.reduce((a, b) => a + b, 0) / x.length;

function compare(one, theirs) {
    const kerf = Math.exp(mean(one.nll)), engine = Math.exp(mean(theirs.nll));
    const off = Math.abs(engine / kerf - 1);
    const same = mean(one.top1.map((token, i) => (token === theirs.top1[i] ? 1 : 0)));
    const gap = mean(one.nll.map((x, i) => Math.abs(x - theirs.nll[i])));
    report(one.nll.length === theirs.nll.length && off <= PERPLEXITY_WITHIN &&
        gap <= MEAN_GAP_WITHIN && same >= TOP1_AT_LEAST,
    `${one.name} (${one.architecture}): the stock engine computes what kerf measured`,
    `perplexity ${kerf.toFixed(4)} here, ${engine.toFixed(4)} there (${(100 * off).toFixed(3)} ` +
        `%), same best token ${(100 * same).toFixed(2)} %, mean gap ${gap.toFixed(5)} nats`);
}

const llama = await getLlama({build: "never", gpu: false, skipDownload: true, logLevel: "error"});
for (const one of cases) {
    try {
        compare(one, await run(llama, path.join(folder, one.file), one === cases[0]));
    } catch (error) {
        report(false, `${one.name} (${one.architecture}): the stock engine loads it`,
            String(error?.message ?? error).split("\n")[0]);
    }
}
await llama.dispose();
if (process.argv.length < 4)
    console.log(`1..${nTests}`);
process.exitCode = nFailed === 0 && nTests > nBefore ? 0 : 1;
