from django.urls import path

from shop import views

urlpatterns = [path("customers", views.customers)]
