"""The daemon: what one process does. From top to bottom:

daemon, control, node, the verbs (publish, fetch, search), exchange/index/jobs, dht, net, store/content,
identity/config/errors. Each may use what stands below it, never above; import-linter keeps it so.
"""
