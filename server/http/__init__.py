"""HTTP: a process that speaks HTTP to the world and protocol 2 to the ventilator.

It needs the extra ``http``; nothing else imports this package.
"""
