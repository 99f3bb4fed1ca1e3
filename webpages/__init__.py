"""HTML pages of one file each: style, pictures, curves and scripts inside, no network.

`document` has the frame, tables and pictures, `curves` the panel in which curves are zoomed and
switched, `charts` the pictures that need no script. page.css and page.js are ours; uplot/ is uPlot
1.6.32 with its licence (MIT), unchanged: it draws the curves, with 51 KB the smallest library that
can zoom. A page is readable without scripts, too: scripts add, they do not show.
Nothing here knows studies or networks. May import nothing of the project.
"""
