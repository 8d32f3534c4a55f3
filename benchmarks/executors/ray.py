"""Jobs on a Ray cluster: this machine's cores, or those of the cluster that ``RAY_ADDRESS`` names.

Nothing needs to be shared between the machines but the packages they have installed. A job writes into a folder of its
own machine; what it has written comes back with its end and is put where a local job would have put it. A machine that is
lost costs the jobs it was working on their work so far, which are begun again elsewhere, and nothing else.
"""

from __future__ import annotations
