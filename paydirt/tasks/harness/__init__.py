"""EleutherAI's lm-evaluation-harness behind our door: its tasks and graders, our files, our chat form, no network.

`benchmark` is the base of the standard benchmarks, `model` lets a loaded model answer, `runner` runs tasks and sums up,
`offline` keeps a machine without network working and says what is degraded. Nothing here imports lm_eval before it runs.
"""
