"""Official weights -> a model directory of ours. Every tensor is used or reported as dropped; every shape is checked.

names         the names of tensors in official weights, and ours
weight_files  reading foreign files tensor by tensor, writing shards
plan          which tensor of which file becomes which tensor of ours
lora          an adapter of the language model, merged into it
assets        settings, vocabulary and tokenizers
random_init   random weights for what training starts from scratch
sizes         the official code's sizes as settings
directory     `convert`: all of it, written completely or not at all
command       `dynrefer convert`
"""

from dynrefer.model.convert.command import convert_command
from dynrefer.model.convert.directory import Conversion, convert
from dynrefer.model.convert.plan import ConversionPlan, plan_conversion

__all__ = ["Conversion", "ConversionPlan", "convert", "convert_command", "plan_conversion"]
