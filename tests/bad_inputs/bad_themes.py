"""All themes in the order of the page."""

import bad_checkpoints
import bad_classes
import bad_commands
import bad_images
import bad_labels
import bad_predictions
import bad_recordings
import bad_releases
import bad_results
import bad_rigs
import bad_samples
import bad_tables

THEMES = (
    bad_images.THEME,
    bad_samples.CALIBRATION,
    bad_samples.TIME,
    bad_samples.BOXES,
    bad_samples.PATHS,
    bad_classes.CLASSES,
    bad_classes.SETTINGS,
    bad_labels.LIDAR,
    bad_labels.LABELS,
    bad_labels.INDEX,
    bad_tables.THEME,
    bad_rigs.THEME,
    bad_recordings.THEME,
    bad_checkpoints.THEME,
    bad_releases.THEME,
    bad_commands.THEME,
    bad_predictions.PREDICTOR,
    bad_predictions.SUBMISSION,
    bad_results.THEME,
)
