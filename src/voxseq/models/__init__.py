"""Networks: the shared encoder, the networks on top of it, and the transfer between them."""
