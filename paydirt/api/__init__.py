"""The public API: pools, targets, scores, selections, models and studies as objects, over the stages that the command runs.

What enters: records and options in memory, or paths. What leaves: objects with a `path`, under which their artifact lies:
in the cache under a key of its content, so that nothing is computed twice, or at the `out` that is asked for. `import
paydirt` holds all the names, each loaded when it is first used.
"""
