"""Official weights -> a model directory of ours: every tensor used or named as dropped, every shape checked.

names         what official weights call their tensors, and what we call them
weight_files  reading foreign files tensor by tensor, writing shards
plan          which tensor of which file becomes which tensor of ours
assets        settings, vocabulary and tokenizers
directory     `convert`: all of it, written at once or not at all
command       `dynrefer convert`
"""

from dynrefer.model.convert.command import convert_command
from dynrefer.model.convert.directory import Conversion, convert
from dynrefer.model.convert.plan import ConversionPlan, plan_conversion

__all__ = ["Conversion", "ConversionPlan", "convert", "convert_command", "plan_conversion"]
