"""The command ``vehins-deploy``, for Python's own library alone; ``vehins.cloud.box.command`` makes one file of it."""
