"""The arithmetic of the layers: functions of arrays, without error messages for users."""
