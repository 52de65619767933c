# ruff: noqa: E501, W291, W293
"""Pages as HTML, mode `html`: the markup that the original serves, byte for byte.

The layout (indents and blank lines included) is the original's, since agents that read raw HTML were trained on it.
Every value is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from stepagent_envs.webshop.pages import json_text, script_json

if TYPE_CHECKING:
    from stepagent_envs.webshop.catalogue import Product
    from stepagent_envs.webshop.engine import Shop
    from stepagent_envs.webshop.state import Session, View

__all__ = ["page"]

_BOOTSTRAP = "https://maxcdn.bootstrapcdn.com/bootstrap/3.4.1/css/bootstrap.min.css"
_PLAIN_HEAD = f"""<!DOCTYPE html>
<html>
  <head>
    <link rel="stylesheet" href="/static/style.css">
    <link rel="stylesheet" href="https://cdnjs.cloudflare.com/ajax/libs/font-awesome/4.7.0/css/font-awesome.min.css">
    <link rel="stylesheet" href="{_BOOTSTRAP}">
    <link rel="icon" href="data:,">
  </head>
  <body>
    <!-- Code reference: https://bootsnipp.com/snippets/m13mN -->
    <div class="container" style="margin-top: 8%;">
      <div class="col-md-6 col-md-offset-3">     
        <div class="row">
"""
_PLAIN_FOOT = """        </div>            
      </div>
    </div>
  </body>
</html>"""
_HEAD = f"""<!DOCTYPE html>
<html>
  <head>
    <link rel="stylesheet" href="/static/style.css">
    <link rel="stylesheet" href="{_BOOTSTRAP}">
    <link rel="stylesheet" href="https://cdnjs.cloudflare.com/ajax/libs/font-awesome/4.0.3/css/font-awesome.css\t">
    <script src="https://ajax.googleapis.com/ajax/libs/jquery/3.5.1/jquery.min.js"></script>
    <script src="https://stackpath.bootstrapcdn.com/bootstrap/4.3.1/js/bootstrap.bundle.min.js"></script>
    <link rel="icon" href="data:,">
  </head>
  <body>
    <div class="container py-5">
      <div class="row top-buffer">
        <div class="col-sm-6">
          <div id="instruction-text" class="text-center">
            <h4>Instruction:<br>"""
_SAFE = "-._~$!'()*,;"


def _text(value: object) -> str:
    """A value as it stands in HTML, quotes as the original's templates write them."""
    return _escape(str(value), quote=True).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")


def _link(session_id: str, **query: object) -> str:
    """An address with query arguments; a tuple repeats its argument."""
    pairs = [("session_id", session_id)]
    for name, value in query.items():
        pairs += [(name, str(each)) for each in (value if isinstance(value, tuple) else (value,))]
    encoded = "&".join(f"{name}={quote(value, safe=_SAFE + ' ').replace(' ', '+')}" for name, value in pairs)
    return _text(f"/?{encoded}")


def page(shop: Shop, view: View, instruction: str, session_id: str) -> str:
    """The HTML of a page."""
    session = view.session
    if view.kind == "search":
        return _search(instruction, session_id)
    if view.kind == "done":
        return _done(view)
    head = f"""{_HEAD}{_text(instruction)}</h4>
          </div>
        </div>
      </div>
{_form_row(_link(session_id), "success", "Back to Search")}"""
    if view.kind == "results":
        total = len(shop.rows(session.keywords or ()))
        return head + _results(shop.shown(view), session, total, shop.has_next(session, total), session_id)
    if view.kind == "item":
        return head + _item(shop.item(session), session, session_id, shop.show_attributes)
    return head + _sub(shop.item(session), session, view.sub, session_id)


def _form_row(action: str, style: str, label: str) -> str:
    return f"""      <div class="row top-buffer">
        <form method="post" action="{action}">
          <button type="submit" class="btn btn-{style}">{_text(label)}</button>
        </form>
      </div>
"""


def _search(instruction: str, session_id: str) -> str:
    return f"""{_PLAIN_HEAD}          <div id="logo" class="text-center">
            <h2>WebShop</h2>
          </div>
          <div id="instruction-text" class="text-center">
            <h4>Instruction: <br>{_text(instruction)}</h4>
          </div>
          <form role="form" id="form-buscar" method="post" action="{_link(session_id)}">
            <div class="form-group">
              <div class="input-group">
                <input id="search_input" class="form-control" type="text" name="search_query" placeholder="Search..." required/>
                <span class="input-group-btn">
                  <button class="btn btn-success" type="submit"><i class="glyphicon glyphicon-search" aria-hidden="true"></i>Search</button>
                </span>
              </div>
            </div>
          </form>
{_PLAIN_FOOT}"""


def _page_form(session: Session, session_id: str, page_number: int, label: str) -> str:
    action = _link(session_id, keywords=session.keywords or (), page=page_number)
    return f"""            <div class="col-sm-2">
              <form method="post" action="{action}">
                <button type="submit" class="btn btn-primary">{_text(label)}</button>
              </form>
            </div>
"""


def _results(products: Sequence[Product], session: Session, total: int, has_next: bool, session_id: str) -> str:
    empty = '            <div class="col-sm-2">\n            </div>\n'
    before = _page_form(session, session_id, session.page - 1, "< Prev") if session.page > 1 else empty
    after = _page_form(session, session_id, session.page + 1, "Next >") if has_next else ""
    listed = "".join(_result(product, session, session_id) for product in products)
    return f"""      <div class="row top-buffer">
        <div class="col-sm-8">
          <div class="display-4">
            <h3>Page {session.page} (Total results: {total})</h3>
          </div>
          
{before}{after}          
        </div>
      </div>

      <div class="row top-buffer">
        {listed}
      </div>
    </div>
  </body>
</html>"""


def _result(product: Product, session: Session, session_id: str) -> str:
    address = _link(
        session_id, asin=product.asin, keywords=session.keywords or (), page=session.page, options="{}"
    )  # fmt: skip
    return f"""
        <div class="col-lg-12 mx-auto list-group-item">
          <div class="col-lg-4">
            <img src="{_text(product.image)}" class="result-img">
          </div>
          <div class="col-lg-8">
            <ul class="list-group shadow">
                <div class="media align-items-lg-center flex-column flex-lg-row p-3">
                  <div class="media-body order-2 order-lg-1 searched-product">
                    
                    <h4 class="mt-0 font-weight-bold mb-2 product-asin"><a class="product-link" href="{address}">{_text(product.asin)}</a></h5>
                    <h4 class="mt-0 font-weight-bold mb-2 product-title">{_text(product.title)}</h5>
                    <div class="d-flex align-items-center justify-content-between mt-1">
                      <h5 class="font-weight-bold my-2 product-price">{_text(product.price_tag)}</h6>
                    </div>
<!--
                    <div class="d-flex align-items-center justify-content-between mt-1">
                      <h5 class="font-weight-bold my-2 product-category">{_text(product.category)}</h5>
                    </div>
                    <div class="d-flex align-items-center justify-content-between mt-1">
                      <h5 class="font-weight-bold my-2 product-query">{_text(product.query)}</h5>
                    </div>
                    <div class="d-flex align-items-center justify-content-between mt-1">
                      <h5 class="font-weight-bold my-2 product-product_category">{_text(product.product_category)}</h5>
                    </div>
-->
                  </div>
                </div>
            </ul>
          </div>
        </div>
        """


def _option(product: Product, session: Session, session_id: str, name: str, number: int, value: str) -> str:
    chosen = {**dict(session.options), name: value}
    address = _link(
        session_id, asin=product.asin, keywords=session.keywords or (), page=session.page, options=chosen
    )  # fmt: skip
    return f"""
                  
                  
                  
                  <input type="radio" id="radio_{_text(name)}{number}" name="{_text(name)}" value="{_text(value)}" data-url="{address}">
                  <label for="radio_{_text(name)}{number}">{_text(value)}</label>
                """


def _option_group(product: Product, session: Session, session_id: str, name: str) -> str:
    values = enumerate(product.options[name])
    listed = "".join(_option(product, session, session_id, name, number, value) for number, value in values)
    return f"""
            <div class="row top-buffer">
              <h4>{_text(name)}</h4>
              <div class="radio-toolbar">
                {listed}
              </div>
            </div>
          """


def _item(product: Product, session: Session, session_id: str, show_attributes: bool) -> str:
    words = session.keywords or ()
    chosen = dict(session.options)
    groups = "".join(_option_group(product, session, session_id, name) for name in product.options)
    address = {
        sub: _link(
            session_id, asin=product.asin, keywords=words, page=session.page, sub_page=sub, options=chosen
        )
        for sub in ("Description", "Features", "Reviews", "Attributes")
    }  # fmt: skip
    subs = "".join(
        _sub_form(box, address[sub], sub)
        for box, sub in (("description", "Description"), ("bulletpoints", "Features"), ("reviews", "Reviews"))
    )
    attributes = (
        f"\n{_sub_form('attributes', address['Attributes'], 'Attributes')}            " if show_attributes else ""
    )
    buy = _link(session_id, asin=product.asin, options=chosen)
    back = _form_row(_link(session_id, keywords=words, page=session.page), "primary", "< Prev")
    return f"""{back}      <div class="row top-buffer">
        <div class="col-md-4 mb-4 mb-md-0">
          <div class="row top-buffer">
            <img id="product-image" src="{_text(product.image)}" class="item-page-img">
          </div>
          {groups}
        </div>
        <div class="col-md-6">
          <h2>{_text(product.title)}</h2>
          <h4>Price: {_text(product.price_tag)}</h4>
          <h4>Rating: {_text(product.rating)}</h4>
          <div class="row top-buffer">
{subs}            {attributes}
          </div>
        </div>
        <div class="col-sm-2">
          <div class="row top-buffer">
            <form method="post" action="{buy}">
              <button type="submit" class="btn btn-lg purchase">Buy Now</button>
            </form>
          </div>
        </div>
      </div>
    </div>
  </body>
  <script>
    $(document).ready(function() {{
      $('input:radio').each(function() {{
        //console.log($(this).val());
        let options = JSON.parse(`{json_text(session.options)}`);
        let optionValues = $.map(options, function(value, key) {{ return value }});
        //console.log(optionValues);
        if (optionValues.includes($(this).val())) {{
          $(this).prop('checked', true);

          let option_to_image = JSON.parse(`{script_json(product.option_images)}`);
//          console.log($(this).val());
//          console.log(options);
//          console.log(option_to_image);
          let image_url = option_to_image[$(this).val()];

          //console.log(image_url);
          if (image_url) {{
            $("#product-image").attr("src", image_url);
          }}
        }}
        
        // reload with updated options
        this.addEventListener("click", function() {{
          window.location.href = this.dataset.url;
        }});

      }});
    }});
  </script>
</html>"""


def _sub_form(box: str, address: str, label: str) -> str:
    return f"""            <div class="col-sm-3" name="{box}">
              <form method="post" action="{address}">
                <button class="btn btn-primary" type="submit">{label}</button>
              </form>
            </div>
"""


def _sub(product: Product, session: Session, sub: str, session_id: str) -> str:
    words = session.keywords or ()
    back = _link(
        session_id, asin=product.asin, keywords=words, page=session.page, options=dict(session.options)
    )  # fmt: skip
    if sub == "Description":
        content = _card("description", f'<p class="product-info">{_text(product.description)}</p>')
    elif sub == "Features":
        content = _card("bulletpoints", _list(f'<p class="product-info"> {_text(b)}</p>' for b in product.bullets))
    elif sub == "Reviews":
        content = _card("reviews", "".join(_review(r.title, r.score, r.body) for r in product.reviews))
    else:
        listed = _list(f'<p class="attribute"> {_text(a)}</p>' for a in product.attributes)
        content = _card("description", listed) + _kinds(product)
    return f"""{_form_row(back, "primary", "< Prev")}      <div class="row top-buffer">
        <div class="col-md-12">
          <div class="row top-buffer">
{content}          </div>
        </div>
      </div>
    </div>
  </body>
</html>"""


def _card(name: str, content: str) -> str:
    return f"""            <div class="col-sm-6" name="{name}">
              <div class="card card-body">
                {content}
              </div>
            </div>
"""


def _list(entries: Iterable[str]) -> str:
    listed = "".join(f"\n                  <li>{entry}</li>\n                  " for entry in entries)
    return f"<ul>\n                  {listed}\n                </ul>"


def _review(title: str, score: int, body: str) -> str:
    return f"""
                <h4 class="review-title">"{_text(title)}"</h4>
                <p class="review-score">{score}</p>
                <p class="content">{_text(body)}</p>"""


def _kinds(product: Product) -> str:
    kinds = (("category", product.category), ("query", product.query), ("product_category", product.product_category))
    listed = "".join(
        f"""              <div class="d-flex align-items-center justify-content-between mt-1">
                <h5 class="font-weight-bold my-2 product-{name}">{_text(value)}</h5>
              </div>
"""
        for name, value in kinds
    )
    return f"""            <div class="col-sm-6" name="description">
{listed}            </div>
"""


def _done(view: View) -> str:
    pairs = "".join(
        f'              <h4 id="{name}">{label}<pre>{value}</pre></{end}>\n'
        for name, label, value, end in (
            ("asin", "asin", _text(view.session.asin), "p"),
            ("options", "options", json_text(view.session.options), "h4"),
            ("purchased_attrs", "attrs", None, "h4"),
            ("purchased-category", "category", None, "h4"),
            ("purchased-query", "query", None, "h4"),
            ("purchased-pc", "product category", None, "h4"),
        )
    )
    target = "".join(
        f'              <h4 id="goal-{name}">{label}<pre></pre></{"p" if name == "asin" else "h4"}>\n'
        for name, label in (
            ("asin", "asin"),
            ("options", "options"),
            ("attrs", "attrs"),
            ("price", "price upper"),
            ("instruction-text", "instuction text"),
            ("category", "category"),
            ("pc", "product category"),
            ("query", "query"),
        )
    )
    return f"""{_PLAIN_HEAD}          <div id="thankyou" class="text-center">
            <h1>Thank you for shopping with us!</h1>
          </div>
          <div id="stats" class="text-center">
            <h3 align="mturk_code">Your code: </h3>
            <p><pre>None</pre> (Paste it in your MTurk interface.)</p>
            <div style="display:none">
              <h2 align="left">Purchased</h2>
              <hr class="solid">
{pairs}              <h2 align="left">Target</h2>
              <hr class="solid">
{target}              <h4>Goal <div id="goal"><pre>None</pre></div></h4>
              <h2 align="left">Reward</h2>
            </div>
            <hr class="solid">
      \t\t\t<h3   id="reward">Your score (min 0.0, max 1.0)<pre>{view.reward}</pre></h3>
            <h4 hidden>Reward Details <div id="reward_info"><pre>None</pre></div></h4>
          </div>
{_PLAIN_FOOT}"""
