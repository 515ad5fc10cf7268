"""Why a carried vector fails: three causes, each with a fix, tried alone and together on the same questions."""
