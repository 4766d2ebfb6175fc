"""min-dalle's models. Importing them turns gradients off and takes all processors; this module undoes both.

With two test processes of two threads each on two processors, a matrix product takes up to sixty times as long.
"""

import torch

before = torch.get_num_threads()
with torch.enable_grad():  # the mode before is set again at the end of this block
    from min_dalle.models import DalleBartDecoder, DalleBartEncoder, VQGanDetokenizer
    from min_dalle.text_tokenizer import TextTokenizer
torch.set_num_threads(before)

__all__ = ["DalleBartDecoder", "DalleBartEncoder", "TextTokenizer", "VQGanDetokenizer"]
