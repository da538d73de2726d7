"""The gateway's cost beside a direct connection and other gateways', measured in one run.

    python -m bench [--quick]

Everything runs on 127.0.0.1: one backend (`backend`), one load generator (`client`), and the
gateways (`ours`, `peers`), which take turns round by round (`measure`). `report` writes it down.
"""
