"""All architectures of the large corpus."""
from assorted import ASSORTED
from attention import ATTENTION
from convolutional import CONVOLUTIONAL

CORPUS = CONVOLUTIONAL | ATTENTION | ASSORTED
