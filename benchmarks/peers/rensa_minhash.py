"""rensa with shingles made in Python: rensa_minhash.py OUT TEXTS.parquet en|zh."""

import sys

import pyarrow.parquet as pq
from clock import answer, cpu_seconds
from rensa import RMinHash, RMinHashLSH

out, source, language = sys.argv[1:]


def shingles(text):
    words = list(text) if language == "zh" else text.split()
    return {" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))}


RMinHash.from_token_sets([["a"]], num_perm=128, seed=42)
started = cpu_seconds()
texts = pq.read_table(source)["text"].to_pylist()
minhashes = RMinHash.from_token_sets([list(shingles(text)) for text in texts], num_perm=128, seed=42)
lsh = RMinHashLSH(0.8, 128, 16)
lsh.insert_many(minhashes)
parent = list(range(len(texts)))


def root(item):
    while parent[item] != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item


for item, found in enumerate(lsh.query_all(minhashes)):
    for other in found:
        first, second = sorted((root(item), root(int(other))))
        parent[second] = first
keeper = [root(item) for item in range(len(texts))]
spent = cpu_seconds() - started
answer(out, cpu=spent, start_up=started, keeper=keeper)
