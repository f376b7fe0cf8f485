"""The result page: one HTML file that holds its numbers, its charts and what draws them.

It opens from a file, without a network: styles, script and Vega are inside, and a content security policy
forbids it to fetch anything. `page` puts it together; `pairs`, `figures` and `about` turn an evaluation into
the texts of `view`; `embedded` writes data into scripts so that no text can end one. The templates escape all
else.
"""
