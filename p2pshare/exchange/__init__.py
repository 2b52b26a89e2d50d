"""Moving blocks: serving them to peers, and fetching a DAG from several at once.

Uses the network, the DHT, the store and content; the rules of the wire are in p2pshare_protocols. It must not know
the verbs, jobs' storage, the control socket or libp2p.
"""
