#!/bin/sh
# From a pool in alpaca.json and a table of questions and answers to a tuned adapter and a receipt, in six commands.
#   sh alpaca_to_adapter.sh ALPACA.json FAQ.csv MODEL OUT
set -eu
pool=$1 table=$2 model=$3 out=$4
paydirt split --pool "faq=$table" --points 0.5 --out "$out/faq"
paydirt score bm25 --pool "alpaca=$pool" --target faq --references "$out/faq/val_faq_data.jsonl" --model "$model" --max-length 512 --out "$out/scores"
paydirt select "$out/scores" --fraction 0.2 --out "$out/selection"
paydirt train --data "$out/selection/selection.jsonl" --model "$model" --max-length 512 --epochs 3 --batch-size 8 --out "$out/adapter"
paydirt evaluate "$out/adapter/model" --target faq --references "$out/faq/val_faq_data.jsonl" --test "$out/faq/train_faq_data.jsonl" --max-length 512 --out "$out/evaluation"
paydirt export "$out/selection" --name faq --out "$out/export"
echo "adapter: $out/adapter/model   receipt: $out/export/README.md"
