from typing import Final

PUBLIC_KEY_BYTES: Final = 2592
SIGNATURE_BYTES: Final = 4627
SEED_BYTES: Final = 32
