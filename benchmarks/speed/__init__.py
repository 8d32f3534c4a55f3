"""Training speed as a ratio to a named peer.

Machines drift by tens of percent within minutes, so only ratios inside a round are to be trusted: a round times every
system once, one straight after the other, each in processes of its own, and the median over rounds is the result.
"""
