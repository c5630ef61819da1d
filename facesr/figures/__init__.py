"""Curves and pictures."""
from facesr.figures.comparison import plot_comparison
from facesr.figures.curves import curve_figures, plot_curves
from facesr.figures.degradation import plot_degradation
from facesr.figures.save import save_figure

__all__ = ['curve_figures', 'plot_comparison', 'plot_curves', 'plot_degradation', 'save_figure']
