"""Files that every exported bundle holds as they are; they import torch and MONAI alone."""
