"""The heart: what rules mean. Four pure functions and the nouns between them.

``compile`` (rules, caller → parts of a Plan), ``resolve`` (Plan, instances → Routing), one ``render``
for each proxy (elsewhere), and ``decide`` (Routing, request → what may happen). No I/O, no clock, no dice.
"""
