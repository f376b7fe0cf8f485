# %% [markdown] title
# # Is this optimization worth adopting?
#
# Two CSVs, a baseline and an optimized system, are read, compared and judged. Every sentence about a figure
# is made from the figure: with other CSVs it reads differently. Run all cells, or `bench notebook --html`.

# %% assumptions
# The files, and what is assumed. None keeps what the measurement states; bare CSVs take what is in brackets.
BASELINE = "baseline_inference_metrics.csv"
OPTIMIZED = "optimized_inference_metrics.csv"
REQUESTS_PER_DAY = None  # volume of the workload (250_000)
P95_LATENCY_MS = None  # objective: p95 latency of at most this many ms (1200)
KG_CO2E_PER_KWH = None  # carbon intensity of the grid, kg CO2e per kWh (0.40)
USD_PER_GPU_HOUR = None  # price of one GPU; without it the cost is what the CSVs state
WORKLOAD = ""  # in your words, e.g. "customer support, steady; about 650 tokens in, 220 out"
OPTIMIZATION = ""  # in your words, e.g. "INT8 weights and dynamic batching"

# %% read
from IPython.display import HTML, Markdown, display

from bench import notebook

pair = notebook.read(
    BASELINE,
    OPTIMIZED,
    requests_per_day=REQUESTS_PER_DAY,
    p95_latency_ms=P95_LATENCY_MS,
    kg_co2e_per_kwh=KG_CO2E_PER_KWH,
    usd_per_gpu_hour=USD_PER_GPU_HOUR,
    workload=WORKLOAD,
    optimization=OPTIMIZATION,
)
display(Markdown(notebook.in_short(pair)))

# %% [markdown] context-heading
# ## 1 Workload and assumptions

# %% context
display(Markdown(notebook.context(pair)))

# %% [markdown] baseline-heading
# ## 2 The baseline
#
# The six figures that decide, as a pandas DataFrame. Of one that is missing the note says why.

# %% baseline
baseline = notebook.deciding(pair, "baseline")
display(notebook.shown(baseline))

# %% [markdown] findings-heading
# ## 3 Findings in the baseline

# %% findings
display(Markdown(notebook.baseline_findings(pair)))

# %% [markdown] scenario-heading
# ## 4 The optimization

# %% scenario
display(Markdown(notebook.scenario(pair)))
optimized = notebook.deciding(pair, "optimized")
display(notebook.shown(optimized))

# %% [markdown] comparison-heading
# ## 5 Comparison
#
# `notebook.changes(pair)` is a DataFrame of plain numbers; `every=True` has all metrics.

# %% comparison
display(notebook.shown(notebook.changes(pair)))
display(HTML(notebook.chart(pair)))

# %% [markdown] differences-heading
# ## 6 Differences, and the scale of a day

# %% differences
display(Markdown(notebook.differences(pair)))

# %% day
display(Markdown(notebook.day_in_words(pair)))
display(notebook.shown(notebook.per_day(pair)))

# %% [markdown] tradeoffs-heading
# ## 7 Tradeoffs

# %% tradeoffs
display(Markdown(notebook.tradeoffs(pair)))

# %% [markdown] analysis-heading
# ## 8 Analysis

# %% analysis
display(Markdown(notebook.analysis(pair)))

# %% [markdown] recommendation-heading
# ## 9 Recommendation

# %% recommendation
display(Markdown(notebook.recommendation(pair)))
