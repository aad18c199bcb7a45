"""datatrove's four stages of MinhashDedup: datatrove_minhash.py OUT TEXTS.parquet en|zh.

Its default cut of 14 buckets of 8 hashes, 5-grams of its own words: spaCy's in English, jieba's (within spaCy) in
Chinese. One task, so that nothing is lost to processes. The rows kept come from its cluster ids.
"""

import json
import struct
import sys
from pathlib import Path

from clock import answer, cpu_seconds
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.word_tokenizers import SpaCyTokenizer

out, source, language = sys.argv[1:]
work = Path(out).with_suffix("")


def run(name, *steps, tasks=1):
    LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, logging_dir=str(work / "logs" / name)).run()


SpaCyTokenizer(language).word_tokenize("某些 words")  # spaCy and jieba load their tables with the first text
config = MinhashConfig(n_grams=5)
signatures, buckets, removed, kept = (str(work / name) for name in ("signatures", "buckets", "removed", "kept"))
started = cpu_seconds()
reader = ParquetReader(str(Path(source).parent), glob_pattern=Path(source).name)
run("1", reader, MinhashDedupSignature(signatures, config=config, language={"en": "eng", "zh": "cmn"}[language]))
run("2", MinhashDedupBuckets(signatures, buckets, config=config), tasks=config.num_buckets)
run("3", MinhashDedupCluster(buckets, removed, config=config, save_cluster_id=True))
run("4", reader, MinhashDedupFilter(removed), ParquetWriter(kept))
spent = cpu_seconds() - started
first = {}
keeper = {}
for file in Path(removed).glob("*.clusters"):
    for row, cluster in struct.iter_unpack("<2I", file.read_bytes()):
        keeper[row] = first.setdefault(cluster, row)
rows = json.loads((work / "logs/1/stats.json").read_text())[0]["stats"]["documents"]["total"]
keepers = [keeper.get(row, row) for row in range(rows)]
layout = [config.num_buckets, config.hashes_per_bucket]
answer(out, cpu=spent, start_up=started, keeper=keepers, layout=layout)
