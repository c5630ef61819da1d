"""facesr: what MMEditing 0.16 lacks for blind face super-resolution.

Importing it costs nothing and changes nothing. `facesr.register` bridges the old libraries to today's stack and
registers this project's classes; `facesr.config.load_config` and the configs' `custom_imports` see to it.
"""
__version__ = '0.1.0'
