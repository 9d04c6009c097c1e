"""What does `raftkv-trio simulate` run? Seeds of faults against a simulated key-value cluster with clients.

- `campaign.py`: many seeds in many processes, their sum, and the search for planted bugs.
- `seeds.py`: one seed at level 1, from its schedule to its verdict; `schedule_on_tasks.py`: at level 2.
- `levels.py`: what the levels are.
- `clients.py`: the clients and their timeouts; `requests.py`: what they ask; `kv_requests.py`: the same as
  the store's commands and results.
- `lease_clients.py`: clients with leases, the members' lessors, and what is asked of both.
- `faults.py`: what each kind of fault does, and how it ends; `reshaping.py`: what an operator does.
- `shrink.py`: makes a failing schedule smaller.
"""
