select path, time, drv, message, log from FailedPaths where path = ?
