"""Annotations in the JSON of COCO, as iNaturalist 2018 and 2019 are published: images, annotations and categories."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.errors import DataError


def annotations_table(where: str, file: Path) -> pl.DataFrame:
    """The columns `path` (`file_name` of each image) and `label` (its category's name, or number where names repeat).

    iNaturalist's files name paths such as `train_val2018/Plantae/7477/1.jpg`, which start from `data.root`. Raises DataError,
    naming `where`, for a file of another kind, and for an image with no annotation or with several.
    """
    try:
        content = json.loads(file.read_bytes())
        paths = {image["id"]: image["file_name"] for image in content["images"]}
        pairs = [(annotation["image_id"], annotation["category_id"]) for annotation in content["annotations"]]
        names = {
            category["id"]: str(category.get("name", category["id"])) for category in content.get("categories", ())
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{where}: wanted JSON with images (id, file_name) and annotations (image_id, category_id), found something else "
            f"({type(error).__name__}: {str(error)[:60]})"
        ) from None
    times = Counter(image for image, _ in pairs)
    wrong = next((image for image in paths if times[image] != 1), None)
    if wrong is not None:
        raise DataError(f"{where}: image {wrong}: wanted one annotation, found {times[wrong]}; an image has one label")
    if unknown := [image for image in times if image not in paths]:
        raise DataError(f"{where}: an annotation is of image {unknown[0]}, which is not among its images")
    are_names = len(set(names.values())) == len(names) and all(category in names for _, category in pairs)
    labels: list[Any] = [names[category] if are_names else category for _, category in pairs]
    return pl.DataFrame({"path": [str(paths[image]) for image, _ in pairs], "label": labels})
