"""Operations of image policies on uint8 images (B, 3, S, S), with a magnitude for each image, (B,). Pure.

They are torchvision's (`transforms.v2.functional`, nearest pixel, black outside). But torchvision takes one magnitude a call;
here each image has its own. Sums are of whole numbers, so that an image comes out the same alone and in any batch.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

TIE = 1e-6
"""Pixels; a source point midway between two pixels goes to the same one on every machine."""


def shear_x(images_B3SS: Tensor, slope_B: Tensor) -> Tensor:
    """Row i is read `slope` * (i + 1/2) pixels further right."""
    x_S, y_S1 = _centred(images_B3SS)
    return _read(images_B3SS, x_S + slope_B[:, None, None] * (y_S1 + images_B3SS.shape[-1] / 2), y_S1)


def shear_y(images_B3SS: Tensor, slope_B: Tensor) -> Tensor:
    """Column j is read `slope` * (j + 1/2) pixels further down."""
    x_S, y_S1 = _centred(images_B3SS)
    return _read(images_B3SS, x_S, y_S1 + slope_B[:, None, None] * (x_S + images_B3SS.shape[-1] / 2))


def translate_x(images_B3SS: Tensor, pixels_B: Tensor) -> Tensor:
    """Moved to the right by `pixels`, of which the fraction is dropped."""
    x_S, y_S1 = _centred(images_B3SS)
    return _read(images_B3SS, x_S - pixels_B.trunc()[:, None, None], y_S1)


def translate_y(images_B3SS: Tensor, pixels_B: Tensor) -> Tensor:
    """Moved down by `pixels`, of which the fraction is dropped."""
    x_S, y_S1 = _centred(images_B3SS)
    return _read(images_B3SS, x_S, y_S1 - pixels_B.trunc()[:, None, None])


def rotate(images_B3SS: Tensor, degrees_B: Tensor) -> Tensor:
    """Counter-clockwise about the centre."""
    x_S, y_S1 = _centred(images_B3SS)
    radians_B11 = degrees_B.deg2rad()[:, None, None]
    cos_B11, sin_B11 = radians_B11.cos(), radians_B11.sin()
    return _read(images_B3SS, cos_B11 * x_S - sin_B11 * y_S1, sin_B11 * x_S + cos_B11 * y_S1)


def brightness(images_B3SS: Tensor, change_B: Tensor) -> Tensor:
    """Away from black by the factor 1 + `change`."""
    return _blend(images_B3SS, torch.zeros(1), change_B)


def colour(images_B3SS: Tensor, change_B: Tensor) -> Tensor:
    """Away from the image's grey by the factor 1 + `change`."""
    return _blend(images_B3SS, _grey(images_B3SS), change_B)


def contrast(images_B3SS: Tensor, change_B: Tensor) -> Tensor:
    """Away from the mean of the image's grey by the factor 1 + `change`."""
    size = images_B3SS.shape[-1]
    mean_B111 = _grey(images_B3SS).sum((1, 2, 3), keepdim=True).double() / size**2
    return _blend(images_B3SS, mean_B111, change_B)


def sharpness(images_B3SS: Tensor, change_B: Tensor) -> Tensor:
    """Away from the 3 x 3 blur (centre 5, neighbours 1, of 13) by the factor 1 + `change`; the border stays."""
    if images_B3SS.shape[-1] <= 2:
        return images_B3SS
    wide_B3SS = images_B3SS.int()
    rows_B3QS = wide_B3SS[:, :, :-2] + wide_B3SS[:, :, 1:-1] + wide_B3SS[:, :, 2:]
    sum_B3QQ = rows_B3QS[..., :-2] + rows_B3QS[..., 1:-1] + rows_B3QS[..., 2:] + 4 * wide_B3SS[:, :, 1:-1, 1:-1]
    blurred_B3SS = images_B3SS.clone()
    # No sum of whole numbers over 13 lies midway, so adding 6 rounds to the nearest.
    blurred_B3SS[:, :, 1:-1, 1:-1] = ((sum_B3QQ + 6) // 13).to(torch.uint8)
    return _blend(images_B3SS, blurred_B3SS, change_B)


def posterize(images_B3SS: Tensor, bits_B: Tensor) -> Tensor:
    """The leading `bits` of each value."""
    mask_B = 256 - 2 ** (8 - bits_B.long())
    return images_B3SS & mask_B.to(torch.uint8)[:, None, None, None]


def solarize(images_B3SS: Tensor, threshold_B: Tensor) -> Tensor:
    """Values from `threshold` on are inverted."""
    return torch.where(images_B3SS >= threshold_B[:, None, None, None], 255 - images_B3SS, images_B3SS)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": lambda images_B3SS, _: images_B3SS,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "Rotate": rotate,
    "Brightness": brightness,
    "Color": colour,
    "Contrast": contrast,
    "Sharpness": sharpness,
    "Posterize": posterize,
    "Solarize": solarize,
    "AutoContrast": lambda images_B3SS, _: v2.autocontrast(images_B3SS),
    "Equalize": lambda images_B3SS, _: v2.equalize(images_B3SS),
}
"""Operations by the names that the papers give them."""


def _centred(images_B3SS: Tensor) -> tuple[Tensor, Tensor]:
    """x (S) and y (S, 1) of pixels' middles, from the image's centre."""
    size = images_B3SS.shape[-1]
    x_S = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return x_S, x_S[:, None]


def _read(images_B3SS: Tensor, x_BSS: Tensor, y_BSS: Tensor) -> Tensor:
    """The pixels nearest to the points (x, y), which are measured from the centre; black outside. Both broadcast to (B, S, S)."""
    count, _, size, _ = images_B3SS.shape
    column_BSS = torch.floor(x_BSS + size / 2 + TIE).long()
    row_BSS = torch.floor(y_BSS + size / 2 + TIE).long()
    inside_BSS = (column_BSS >= 0) & (column_BSS < size) & (row_BSS >= 0) & (row_BSS < size)
    index_BSS = (row_BSS * size + column_BSS).where(inside_BSS, 0)
    read_B3P = images_B3SS.flatten(2).gather(2, index_BSS.view(count, 1, -1).expand(-1, 3, -1))
    return read_B3P.view_as(images_B3SS) * inside_BSS[:, None]


def _grey(images_B3SS: Tensor) -> Tensor:
    """Grey by the usual weights of red, green and blue, rounded down: (B, 1, S, S)."""
    red_BSS, green_BSS, blue_BSS = images_B3SS.int().unbind(1)
    return ((2989 * red_BSS + 5870 * green_BSS + 1140 * blue_BSS) // 10000)[:, None]


def _blend(images_B3SS: Tensor, other: Tensor, change_B: Tensor) -> Tensor:
    """other + (1 + change) * (image - other), rounded down and kept within 0 … 255."""
    factor_B111 = (1 + change_B).float()[:, None, None, None]
    rest_B111 = (-change_B).float()[:, None, None, None]
    return (images_B3SS * factor_B111 + other.float() * rest_B111).clamp_(0, 255).to(torch.uint8)
