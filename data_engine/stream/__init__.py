"""Samples out of shards, in an order that is a function of (seed, epoch, mixture) and a place in it."""

from data_engine.stream.items import StreamItem as StreamItem
from data_engine.stream.items import read_item as read_item
from data_engine.stream.shard_reader import ShardReader as ShardReader
from data_engine.stream.shard_reader import StreamError as StreamError
from data_engine.stream.stream import Failure as Failure
from data_engine.stream.stream import Place as Place
from data_engine.stream.stream import Stream as Stream
