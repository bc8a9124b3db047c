"""From a pool in alpaca.json and a table of questions and answers to a tuned adapter and a receipt:
python alpaca_to_adapter.py ALPACA.json FAQ.csv MODEL OUT"""

import sys

import paydirt as pay

alpaca, table, model, out = sys.argv[1:]
pool = pay.Pool.from_records(alpaca)
target = pay.Target.from_records(table, name="faq")
scores = pay.score(pool, target, pay.BM25(), model=model, encoding={"max_length": 512})
picked = pay.select(scores, fraction=0.2)
tuned = pay.train(picked, model, training={"epochs": 3, "batch_size": 8})
print(tuned.model, picked.export(f"{out}/export", name="faq") / "README.md")
