"""data-juicer's DocumentMinhashDeduplicator: data_juicer_minhash.py OUT TEXTS.parquet en|zh.

Characters in Chinese, as its documentation recommends. Its own choice of bands and rows for the threshold.
"""

import sys

from clock import answer, cpu_seconds
from data_juicer.core.data import NestedDataset
from data_juicer.ops.common.helper_func import UnionFind
from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
from datasets import disable_caching, load_dataset

out, source, language = sys.argv[1:]


disable_caching()
operator = DocumentMinhashDeduplicator(
    tokenization="character" if language == "zh" else "space",
    window_size=5,
    num_permutations=128,
    jaccard_threshold=0.8,
)
started = cpu_seconds()
texts = NestedDataset(load_dataset("parquet", data_files=source, split="train", cache_dir=out + ".cache"))
kept, _ = operator.process(texts.map(operator.compute_hash))
num_kept = len(kept)
spent = cpu_seconds() - started
# It keeps no record of what it joined: the clusters are made once more from its tables, apart from the time.
clusters = UnionFind()
for table in operator.hash_tables:
    for cluster in table.values():
        for member in cluster:
            clusters.union(member, min(cluster))
keeper = [clusters.find(item) for item in range(len(texts))]
assert num_kept == len(set(keeper))
layout = [operator.num_bands, operator.num_rows_per_band]
answer(out, cpu=spent, start_up=started, keeper=keeper, layout=layout)
