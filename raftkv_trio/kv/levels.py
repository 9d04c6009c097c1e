"""The feature levels of a store: what commands it runs, and what its state has."""

#: Feature levels. At the first one, a store runs commands of versions 1 and 2 only, and has no history. At
#: the second one it runs none of version 4, and has no leases. At the third one it runs none of version 5,
#: and has no users and roles.
FIRST_LEVEL, HISTORY_LEVEL, LEASES_LEVEL, AUTH_LEVEL = 1, 2, 3, 4
LEVEL_NOT_REACHED = "the cluster has not reached the feature level of this command"
