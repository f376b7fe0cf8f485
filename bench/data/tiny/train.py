"""Reproduce the tiny model, its tokenizer and the corpus files next to it.

The texts come from the Debian packages ``bible-kjv`` (the reader),
``bible-kjv-text`` (King James Version) and ``jargon-text`` (Jargon File 4.4.7):

    apt-get download bible-kjv bible-kjv-text jargon-text
    for deb in *.deb; do dpkg-deb -x "$deb" root; done
    (cd root/usr/lib && ../bin/bible -f gen1:1-rev22:21) > kjv.txt
    zcat root/usr/share/doc/jargon-text/jargon.txt.gz > jargon.txt

and then, for everything (``--stage corpus`` rewrites the corpus files alone,
``--stage eval`` measures the saved model again):

    python train.py --kjv kjv.txt --jargon jargon.txt

Training runs in FP32 on the CPU (Muon orthogonalizes in BF16) and is seeded; the
budget is counted in steps, so another machine takes another time but does the
same work.  Rounding differs between processors and library versions, so the
weights do too, slightly.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

HERE = Path(__file__).resolve().parent
PAD, BOS, EOS = "<pad>", "<s>", "</s>"
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
VOCAB, CONTEXT = 2048, 2048
BLOCK = 128
BUCKETS = ((0, 128), (128, 512), (512, 1024), (1024, 2048))

# Abbreviation printed by `bible -f` = name of the book, in canonical order.
BOOK_NAMES = (
    "Ge=Genesis|Exo=Exodus|Lev=Leviticus|Num=Numbers|Deu=Deuteronomy|Josh=Joshua|"
    "Jdgs=Judges|Ruth=Ruth|1Sm=1 Samuel|2Sm=2 Samuel|1Ki=1 Kings|2Ki=2 Kings|"
    "1Chr=1 Chronicles|2Chr=2 Chronicles|Ezra=Ezra|Neh=Nehemiah|Est=Esther|Job=Job|"
    "Psa=Psalms|Prv=Proverbs|Eccl=Ecclesiastes|SSol=Song of Solomon|Isa=Isaiah|"
    "Jer=Jeremiah|Lam=Lamentations|Eze=Ezekiel|Dan=Daniel|Hos=Hosea|Joel=Joel|"
    "Amos=Amos|Obad=Obadiah|Jonah=Jonah|Mic=Micah|Nahum=Nahum|Hab=Habakkuk|"
    "Zep=Zephaniah|Hag=Haggai|Zec=Zechariah|Mal=Malachi|Mat=Matthew|Mark=Mark|"
    "Luke=Luke|John=John|Acts=Acts|Rom=Romans|1Cor=1 Corinthians|2Cor=2 Corinthians|"
    "Gal=Galatians|Eph=Ephesians|Phi=Philippians|Col=Colossians|1Th=1 Thessalonians|"
    "2Th=2 Thessalonians|1Tim=1 Timothy|2Tim=2 Timothy|Titus=Titus|Phmn=Philemon|"
    "Heb=Hebrews|Jas=James|1Pet=1 Peter|2Pet=2 Peter|1Jn=1 John|2Jn=2 John|3Jn=3 John|"
    "Jude=Jude|Rev=Revelation"
)
BOOKS = dict(pair.split("=") for pair in BOOK_NAMES.split("|"))
# Held-out chapters: runs of neighbours, from books of different kinds.
HELD_KJV = (
    ("Genesis", 39, 43),
    ("1 Samuel", 24, 27),
    ("Job", 28, 32),
    ("Psalms", 33, 38),
    ("Isaiah", 24, 27),
    ("Acts", 24, 26),
)
# Chapters whose text (all of it in training) goes to prompts.txt.
PROMPT_KJV = (
    ("Exodus", 1, 16),
    ("Ecclesiastes", 1, 12),
    ("Daniel", 1, 7),
    ("Matthew", 5, 13),
    ("Romans", 1, 10),
)
# Lexicon entries are cut in runs of RUN; run numbers by use.
RUN = 20
HELD_RUNS = (11, 34, 57, 80, 103)
PROMPT_RUNS = (*range(20, 25), *range(66, 71))

# (context, rows per batch, share of the steps): most steps short, the last ones long.
PHASES = ((128, 16, 0.25), (256, 8, 0.45), (512, 4, 0.12), (1024, 2, 0.08), (2048, 1, 0.10))


@dataclass(frozen=True)
class Part:
    """One chapter, lexicon entry or section, with where it goes."""

    text: str
    group: str
    held: bool = False
    prompt: bool = False


# ---------------------------------------------------------------- texts


def to_ascii(text: str) -> str:
    """Replace typographic characters by their plain ASCII equivalents."""
    table = {
        "\u2018": "'", "\u2019": "'", "\u00b4": "'", "\u201c": '"', "\u201d": '"',
        "\u2014": "--", "\u2013": "-", "\u2212": "-", "\u00b7": ".", "\u2022": "*",
        "\u2192": "->", "\u2190": "<-", "\u00d7": "x", "\u00a9": "(C)", "\u00ae": "(R)",
        "\u00e6": "ae", "\u00df": "ss", "\u00d8": "O", "\u00b1": "+/-", "\u2329": "<",
        "\u232a": ">", "\u3008": "<", "\u3009": ">", "\u00a3": "GBP ",
    }  # fmt: skip
    plain = unicodedata.normalize("NFKD", text.translate(str.maketrans(table)))
    return plain.encode("ascii", "ignore").decode("ascii")


def read_kjv(path: Path) -> list[Part]:
    """Read `bible -f` output: one part a chapter, one line a verse."""
    chapters: dict[tuple[str, int], list[str]] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        match = re.fullmatch(r"(\d?[A-Za-z]+)(\d+):\d+ (.+)", line)
        if match:
            key = (BOOKS[match[1]], int(match[2]))
            chapters.setdefault(key, []).append(" ".join(match[3].split()))

    def chosen(key: tuple[str, int], runs: Iterable[tuple[str, int, int]]) -> bool:
        return any(key[0] == book and low <= key[1] <= high for book, low, high in runs)

    return [
        Part("\n".join([f"{book} {number}", "", *verses]), book,
             chosen((book, number), HELD_KJV), chosen((book, number), PROMPT_KJV))
        for (book, number), verses in chapters.items()
    ]  # fmt: skip


def reflow(block: str) -> str:
    """Join the lines of a filled paragraph; keep those of code and verse."""
    lines = [line[3:] if line.startswith("   ") else line for line in block.splitlines()]
    if all(len(line) >= 50 and not line.startswith(" ") for line in lines[:-1]):
        return " ".join(" ".join(lines).split())
    return "\n".join(line.rstrip() for line in lines)


def read_jargon(path: Path) -> list[Part]:
    """Read the Jargon File: a part an entry or a section, without lists and tables."""
    text = path.read_text(encoding="utf-8").replace("\u00a0", " ")
    front, _, rest = text.partition("\nGlossary\n")
    front = front[front.index(" Welcome to the Jargon File") :]
    start = re.search(r"^   :\S.*:", rest, re.MULTILINE)
    assert start, "no lexicon entry found"
    lexicon, _, back = rest[start.start() :].partition(" Part III. Appendices")
    back = back[back.index("\nAppendix A.") :]

    def blocks(part: str) -> list[str]:
        kept = [b for b in re.split(r"\n\s*\n", part) if b.strip()]
        return [to_ascii(reflow(b)).strip("\n") for b in kept
                if not re.search(r"[\u2500-\u257f]", b)]  # fmt: skip

    def grouped(part: str, head: str, group: str) -> list[Part]:
        found: list[list[str]] = [[]]
        for block in blocks(part):
            if re.match(head, block):
                found.append([])
            if block and not re.fullmatch(r"[A-Z]|Table of Contents", block):
                found[-1].append(block)
        return [Part("\n\n".join(item), group) for item in found if item]

    sections = [grouped(part, r"(Chapter|Appendix) \w+\. ", name)
                for part, name in ((front, "jargon-front"), (back, "jargon-back"))]  # fmt: skip
    entries = [
        Part(entry.text, "jargon-lexicon", i // RUN in HELD_RUNS, i // RUN in PROMPT_RUNS)
        for i, entry in enumerate(grouped(lexicon, r":\S.*:", "jargon-lexicon"))
    ]
    return [*sections[0], *entries, *sections[1]]


def join(parts: Iterable[Part]) -> str:
    """Join parts with an empty line between them."""
    return "\n\n".join(part.text for part in parts)


def documents(parts: Sequence[Part]) -> list[str]:
    """Group neighbouring training parts into documents, broken where held-out text was cut."""
    runs = itertools.groupby(parts, key=lambda part: (part.group, part.held))
    return [join(items) + "\n" for (_, held), items in runs if not held]


def write_corpus(folder: Path, kjv: Sequence[Part], jargon: Sequence[Part]) -> None:
    """Write heldout.txt and prompts.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, use in (("heldout", "held"), ("prompts", "prompt")):
        text = join(part for part in (*kjv, *jargon) if getattr(part, use)) + "\n"
        (folder / f"{name}.txt").write_text(text, encoding="ascii")
        print(f"{name}.txt: {len(text)} bytes", flush=True)
    held = {line for p in (*kjv, *jargon) if p.held for line in p.text.splitlines() if line}
    seen = {line for p in (*kjv, *jargon) if not p.held for line in p.text.splitlines()}
    print(f"held-out lines that also occur, word for word, in training: "
          f"{len(held & seen)} of {len(held)}: {sorted(held & seen, key=len)[-3:]}")  # fmt: skip


# ---------------------------------------------------------------- tokenizer and model


def build_tokenizer(docs: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of VOCAB tokens on the training documents."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        docs,
        trainers.BpeTrainer(
            vocab_size=VOCAB,
            special_tokens=[PAD, BOS, EOS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, BOS_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model() -> LlamaForCausalLM:
    """Make the untrained model."""
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        rope_theta=10000.0,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
    )
    model = LlamaForCausalLM(config)
    # Projections that write to the residual stream start smaller, as in GPT-2.
    for name, weight in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weight.data.mul_(1 / math.sqrt(2 * config.num_hidden_layers))
    return model


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Encode without special tokens."""
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


def rate(step: int, steps: int, warmup: int, hold: float, floor: float) -> float:
    """Learning-rate factor: warm-up, flat to the `hold` share, then linear to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    left = (steps - step) / max(1.0, steps * (1 - hold))
    return min(1.0, floor + (1 - floor) * left)


def plan(steps: int) -> list[tuple[int, int]]:
    """List (context, rows) of every step."""
    out: list[tuple[int, int]] = []
    total = 0.0
    for context, rows, share in PHASES:
        total += share
        out += [(context, rows)] * (round(total * steps) - len(out))
    return out


def make_optimizers(model: LlamaForCausalLM, lr: float, decay: float,
                    muon: bool) -> list[torch.optim.Optimizer]:  # fmt: skip
    """AdamW for everything, or Muon for the layers' matrices and AdamW for the rest."""
    layers = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    rest = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" not in n]
    gains = [p for p in model.parameters() if p.ndim < 2]
    adam = [{"params": rest, "weight_decay": decay}, {"params": gains, "weight_decay": 0.0}]
    if not muon:
        adam[0]["params"] = [*rest, *layers]
    out: list[torch.optim.Optimizer] = [torch.optim.AdamW(adam, lr=lr, betas=(0.9, 0.95))]
    if muon:
        out.append(torch.optim.Muon(layers, lr=2 * lr, weight_decay=decay,
                                    adjust_lr_fn="match_rms_adamw"))  # fmt: skip
    return out


def train(model: LlamaForCausalLM, stream: torch.Tensor, args: argparse.Namespace) -> None:
    """Train on random windows of the stream; most begin with BOS, as prompts do."""
    generator = torch.Generator().manual_seed(args.seed)
    optimizers = make_optimizers(model, args.lr, args.weight_decay, args.optimizer == "muon")
    base = [[group["lr"] for group in opt.param_groups] for opt in optimizers]
    schedule = plan(args.steps)
    start, mean = time.perf_counter(), 0.0
    model.train()
    for step, (context, rows) in enumerate(schedule):
        factor = rate(step, args.steps, args.warmup, 0.4, 0.02)
        for opt, rates in zip(optimizers, base, strict=True):
            for group, value in zip(opt.param_groups, rates, strict=True):
                group["lr"] = value * factor
        at = torch.randint(0, len(stream) - context, (rows,), generator=generator)
        labels = torch.stack([stream[i + 1 : i + 1 + context] for i in at.tolist()])
        inputs = torch.stack([stream[i : i + context] for i in at.tolist()])
        inputs[torch.rand(rows, generator=generator) < 0.9, 0] = BOS_ID
        logits = model(input_ids=inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in optimizers:
            opt.step()
            opt.zero_grad(set_to_none=True)
        mean = loss.item() if step == 0 else 0.98 * mean + 0.02 * loss.item()
        if (step + 1) % args.every == 0 or step + 1 == args.steps:
            spent = time.perf_counter() - start
            left = spent / (step + 1) * (args.steps - step - 1)
            print(f"step {step + 1}/{args.steps} context {context} loss {mean:.3f} "
                  f"spent {spent:.0f} s, about {left:.0f} s left", flush=True)  # fmt: skip


# ---------------------------------------------------------------- measurement


@torch.inference_mode()
def losses(model: LlamaForCausalLM, ids: Sequence[int], starts: Sequence[int]) -> torch.Tensor:
    """Per-token loss of BOS-led windows of CONTEXT tokens beginning at `starts`."""
    text = torch.tensor(ids)
    out = []
    for first in starts:
        labels = text[first : first + CONTEXT]
        inputs = torch.cat([torch.tensor([BOS_ID]), labels[:-1]])
        logits = model(input_ids=inputs[None], use_cache=False).logits[0].float()
        out.append(torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
    return torch.stack(out) if out else torch.empty(0, CONTEXT)


def measure(model: LlamaForCausalLM, sources: dict[str, list[int]]) -> dict[str, float]:
    """Held-out perplexity: overall, by source and by position bucket.

    Overall and by source: windows of CONTEXT tokens side by side.  By bucket:
    windows a BLOCK apart, and only the blocks of text seen at every position, so
    all buckets are measured on the same tokens.
    """
    model.eval()
    nll: dict[str, list[torch.Tensor]] = {}
    for name, ids in sources.items():
        if len(ids) < 2 * CONTEXT:
            raise ValueError(f"{name}: {len(ids)} tokens are too few to measure")
        last = (len(ids) - CONTEXT) // BLOCK
        table = losses(model, ids, [i * BLOCK for i in range(last + 1)])
        side = table[:: CONTEXT // BLOCK].flatten()
        nll.setdefault("overall", []).append(side)
        nll.setdefault(name, []).append(side)
        deep = CONTEXT // BLOCK
        blocks = table.view(last + 1, deep, BLOCK)
        for low, high in BUCKETS:
            for k in range(low // BLOCK, high // BLOCK):
                # Block b sits k blocks deep in the window that starts at block b - k.
                same = blocks[deep - 1 - k : last + 1 - k, k].flatten()
                nll.setdefault(f"{low}-{high}", []).append(same)
    return {key: math.exp(torch.cat(parts).mean().item()) for key, parts in nll.items()}


def report(folder: Path, tokenizer: PreTrainedTokenizerFast, sources: dict[str, str],
           dtypes: Sequence[str]) -> None:  # fmt: skip
    """Print the held-out perplexity of the saved model in each precision."""
    ids = {name: encode(tokenizer, text) for name, text in sources.items()}
    print("held-out tokens:", {name: len(value) for name, value in ids.items()})
    for name in dtypes:
        model = LlamaForCausalLM.from_pretrained(folder, dtype=getattr(torch, name))
        values = measure(model, ids)
        row = ", ".join(f"{key} {value:.3f}" for key, value in values.items())
        print(f"{name}: perplexity {row}", flush=True)


def save(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Save in FP16, with file modes and class names that older readers accept."""
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        bos_token_id=BOS_ID, eos_token_id=EOS_ID, pad_token_id=PAD_ID, do_sample=False
    )
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name in ("config.json", "generation_config.json", "model.safetensors",
                 "tokenizer.json", "tokenizer_config.json"):  # fmt: skip
        (folder / name).chmod(0o644)


# ---------------------------------------------------------------- command line


def parser() -> argparse.ArgumentParser:
    """Build the command line."""
    style = argparse.RawDescriptionHelpFormatter
    out = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    out.add_argument("--kjv", type=Path, required=True, help="output of `bible -f`")
    out.add_argument("--jargon", type=Path, required=True, help="jargon.txt, unpacked")
    out.add_argument("--out", type=Path, default=HERE, help="model folder (default: this one)")
    out.add_argument("--corpus", type=Path, default=HERE.parent / "corpus",
                     help="corpus folder (default: ../corpus)")  # fmt: skip
    out.add_argument("--stage", choices=("all", "corpus", "eval"), default="all")
    out.add_argument("--steps", type=int, default=2600, help="optimizer steps (%(default)s)")
    out.add_argument("--lr", type=float, default=4e-3, help="peak rate (%(default)s)")
    out.add_argument("--weight-decay", type=float, default=0.1, help="(%(default)s)")
    out.add_argument("--warmup", type=int, default=100, help="steps (%(default)s)")
    out.add_argument("--optimizer", choices=("adamw", "muon"), default="muon",
                     help="for the layers' matrices (%(default)s)")  # fmt: skip
    out.add_argument("--jargon-repeat", type=int, default=2,
                     help="times the smaller text is in the stream (%(default)s)")  # fmt: skip
    out.add_argument("--dtypes", nargs="+", default=["float32", "float16"],
                     help="precisions to measure (%(default)s)")  # fmt: skip
    out.add_argument("--every", type=int, default=100, help="steps a progress line")
    out.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    out.add_argument("--seed", type=int, default=20240229, help="(%(default)s)")
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stages asked for."""
    args = parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    kjv, jargon = read_kjv(args.kjv), read_jargon(args.jargon)
    held = {
        "kjv": join(part for part in kjv if part.held),
        "jargon": join(part for part in jargon if part.held),
    }
    if args.stage == "eval":
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.out)
        report(args.out, tokenizer, held, args.dtypes)
        return
    write_corpus(args.corpus, kjv, jargon)
    if args.stage == "corpus":
        return
    bible, slang = documents(kjv), documents(jargon)
    tokenizer = build_tokenizer([*bible, *slang])
    stream: list[int] = []
    for doc in (*bible, *(slang * args.jargon_repeat)):
        stream += [*encode(tokenizer, doc), EOS_ID]
    model = build_model()
    size = sum(p.numel() for p in model.parameters())
    print(f"{size} parameters, {len(stream)} tokens in the stream", flush=True)
    train(model, torch.tensor(stream), args)
    save(args.out, model, tokenizer)
    report(args.out, tokenizer, held, args.dtypes)


if __name__ == "__main__":
    main()
