"""How the executed notebook looks as one HTML page: a calm column of text, the code folded away.

nbconvert's own templates load MathJax and others from the network; this one loads nothing.
"""

STYLE = """
:root { color-scheme: light; }
body { max-width: 62rem; margin: 2.5rem auto 5rem; padding: 0 1.25rem; color: #1b1f24; background: #fff;
       font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .9rem; border-top: 1px solid #d9dde2; }
p, ul, table, figure { margin: .6rem 0; }
ul { padding-left: 1.2rem; }
li { margin: .25rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0;
         border-bottom: 1px solid #e6e9ed; }
th { font-weight: 600; border-bottom-color: #8a929c; }
th, td:not(:last-child) { white-space: nowrap; }
figcaption { font-size: .85rem; color: #4b535d; max-width: 46rem; }
svg { max-width: 100%; height: auto; }
code, pre { font: .85rem/1.5 ui-monospace, 'DejaVu Sans Mono', monospace; }
pre { margin: 0; padding: .7rem .9rem; overflow-x: auto; background: #f5f6f8; }
details { margin: .5rem 0; }
summary { cursor: pointer; font-size: .8rem; color: #5b636d; }
.output_area, .output { overflow-x: auto; }
.output_stderr { background: #fdf1f1; }
.anchor-link { display: none; }
@media print { details { display: none; } body { margin: 0; max-width: none; } }
"""

TEMPLATE = f"""
{{%- extends 'index.html.j2' -%}}
{{% block header %}}<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Evaluation</title>
<style>{STYLE}</style>
</head>
<body>
{{% endblock header %}}
{{% block input_group %}}<details><summary>code</summary>
{{{{ super() }}}}</details>{{% endblock input_group %}}
{{% block in_prompt %}}{{% endblock in_prompt %}}
{{% block empty_in_prompt %}}{{% endblock empty_in_prompt %}}
{{% block output_area_prompt %}}{{% endblock output_area_prompt %}}
{{% block footer %}}</body>
</html>
{{% endblock footer %}}
"""
"""A Jinja template that extends nbconvert's `basic`."""
