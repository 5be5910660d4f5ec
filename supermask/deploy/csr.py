"""Layers that hold their weights in compressed rows, for inference on a CPU."""

import warnings

import torch
from torch import Tensor, nn


class SparseLinear(nn.Module):
    """A linear layer whose weight lies in compressed rows (CSR): zeros take neither memory nor time.

    The product is PyTorch's, which has MKL do it. It has no gradient with respect to the weight, and equals that of the
    dense layer up to the rounding of sums.

    Args:
        layer: whose weight and bias it takes, without a copy of the bias.

    """

    rows: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("rows", csr(layer.weight.detach()))
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """The dense weight (out_features, in_features), made at each access, for code that reads it elsewhere."""
        return self.rows.to_dense()

    def extra_repr(self) -> str:
        """Return what `print` says of it."""
        return f"{self.in_features}, {self.out_features}, {self.rows._nnz()} weights"

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs (..., out_features) of inputs (..., in_features)."""
        if x.shape[:-1].numel() == 1:  # a vector takes half the time of a matrix of one column
            vector = x.reshape(self.in_features)
            found = self.rows @ vector if self.bias is None else torch.addmv(self.bias, self.rows, vector)
        else:
            found = _product(self.rows, x.reshape(-1, self.in_features).t(), self.bias).t()
        return found.reshape(*x.shape[:-1], self.out_features)


class SparsePointwise(nn.Module):
    """A convolution with a kernel of one pixel whose weight lies in compressed rows, as `SparseLinear` has them.

    Args:
        layer: with stride 1, no padding and one group.

    """

    rows: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self.register_buffer("rows", csr(layer.weight.detach().flatten(1)))
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        """The dense weight (out_channels, in_channels, 1, 1), made at each access."""
        return self.rows.to_dense()[..., None, None]

    def extra_repr(self) -> str:
        """Return what `print` says of it."""
        return f"{self.in_channels}, {self.out_channels}, {self.rows._nnz()} weights"

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs (batch, out_channels, height, width) of inputs (batch, in_channels, height, width)."""
        pixels = x.transpose(0, 1).reshape(self.in_channels, -1)
        found = _product(self.rows, pixels, self.bias)
        return found.view(self.out_channels, len(x), *x.shape[2:]).transpose(0, 1)


def csr(weight: Tensor) -> Tensor:
    """Return a matrix in compressed rows, with int32 indices: of int64 ones PyTorch makes such for MKL at each call."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state", UserWarning)
        # torch 2.11 says so once in a process, where they are asked for too
        warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled", UserWarning)
        rows = weight.to_sparse_csr()
        indices = rows.crow_indices().int(), rows.col_indices().int()
        return torch.sparse_csr_tensor(*indices, rows.values(), rows.shape, check_invariants=True)


def _product(rows: Tensor, columns: Tensor, bias: Tensor | None) -> Tensor:
    """Return rows (outputs, inputs) x columns (inputs, n) + bias."""
    return rows @ columns if bias is None else torch.addmm(bias[:, None], rows, columns)
